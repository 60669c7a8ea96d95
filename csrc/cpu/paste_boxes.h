#pragma once
#include "core/box.h"
#include "lpsnet.h"

namespace lps {

struct PasteInputs {
  const uint8_t* labels;
  const uint8_t* is_thing;
  const Box* boxes;
  const float* scores;
  const int32_t* box_labels;
  const int32_t* box_levels;
  const int32_t* num_valid;
  const float* const* borderness;
  const uint8_t* stuff_labels;
};

struct PasteOutputs {
  int32_t* ids;
  int32_t* segment_labels;
  float* segment_scores;
  int32_t* segment_areas;
  int32_t* segment_boxes;
  int32_t* num_segments;
};

void paste_boxes_cpu(const LpsPasteBoxesParams& params, const PasteInputs& in, const PasteOutputs& out);

}  // namespace lps
