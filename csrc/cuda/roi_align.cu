// One warp for a bin. Its lanes take the channels, which lie side by side, kPerLane of them at a time, so that where a
// sample reads is found once for so many.
#include "cuda/roi_align.h"

#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 256;
constexpr int kPerLane = 8;

__global__ void align_bins(RoiPyramid pyramid, float* out) {
  const LpsRoiAlignParams& p = pyramid.params;
  const int64_t bin = global_thread() / warpSize;
  const int64_t bins = static_cast<int64_t>(p.out_height) * p.out_width;
  const int64_t index = bin / bins;
  if (index >= p.num_boxes) return;
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const int row = static_cast<int>(bin % bins) / p.out_width, column = static_cast<int>(bin % bins) % p.out_width;
  const Roi roi = pyramid.roi(index);
  float* result = out + bin * p.channels;

  for (int begin = lane; begin < p.channels; begin += warpSize * kPerLane) {
    float sum[kPerLane] = {};
    if (roi.exists) {
      const int height = p.levels.height[roi.level], width = p.levels.width[roi.level];
      for (int i = 0; i < roi.y.samples; ++i) {
        const RoiTap y = roi_tap(roi.y, row, i, height);
        if (!y.inside()) continue;
        for (int j = 0; j < roi.x.samples; ++j) {
          const RoiTap x = roi_tap(roi.x, column, j, width);
          if (!x.inside()) continue;
          const float* top_low = pyramid.pixel(roi.level, y.low, x.low);
          const float* top_high = pyramid.pixel(roi.level, y.low, x.high);
          const float* bottom_low = pyramid.pixel(roi.level, y.high, x.low);
          const float* bottom_high = pyramid.pixel(roi.level, y.high, x.high);
#pragma unroll
          for (int k = 0; k < kPerLane; ++k) {
            const int c = begin + k * warpSize;
            if (c < p.channels) sum[k] += roi_blend(y, x, top_low[c], top_high[c], bottom_low[c], bottom_high[c]);
          }
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kPerLane; ++k)
      if (begin + k * warpSize < p.channels) result[begin + k * warpSize] = sum[k];
  }
}

}  // namespace

void roi_align_cuda(const RoiPyramid& pyramid, const LpsContext& context, float* out) {
  const LpsRoiAlignParams& p = pyramid.params;
  const int64_t bins = static_cast<int64_t>(p.num_boxes) * p.out_height * p.out_width;
  launch(static_cast<cudaStream_t>(context.stream), blocks_for(bins * 32, kThreads), kThreads, 0, align_bins, pyramid,
         out);
}

}  // namespace lps
