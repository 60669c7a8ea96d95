// The boxes and the feature maps of a RoIAlign.
#pragma once
#include <stdint.h>

#include "core/roi_align.h"
#include "lpsnet.h"

namespace lps {

// Passed to kernels by value, so the pointers to the maps are in it.
struct RoiPyramid {
  LpsRoiAlignParams params;
  const float* features[LPS_MAX_LEVELS];  // per level [height, width, channels]
  const Box* boxes;
  const int32_t* box_levels;  // or null: by size
  const int32_t* num_valid;   // or null: all

  LPS_HOST_DEVICE Roi roi(int64_t index) const {
    const LpsRoiAlignParams& p = params;
    Roi roi{};
    if (num_valid && index >= *num_valid) return roi;
    const Box box = boxes[index];
    if (!is_finite(box)) return roi;
    roi.level =
        box_levels ? box_levels[index] : roi_level(box, p.canonical_level, p.canonical_size, p.levels.num_levels);
    if (roi.level < 0 || roi.level >= p.levels.num_levels) return roi;
    const float stride = static_cast<float>(p.levels.stride[roi.level]);
    roi.y = roi_axis(box.y1, box.y2, stride, p.out_height, p.sampling_ratio, p.levels.height[roi.level]);
    roi.x = roi_axis(box.x1, box.x2, stride, p.out_width, p.sampling_ratio, p.levels.width[roi.level]);
    roi.exists = true;
    return roi;
  }

  // The channels of a pixel.
  LPS_HOST_DEVICE const float* pixel(int level, int row, int column) const {
    const int64_t index = static_cast<int64_t>(row) * params.levels.width[level] + column;
    return features[level] + index * params.channels;
  }
};

}  // namespace lps
