#include "cpu/roi_align.h"

#include <algorithm>

#include "cpu/parallel.h"
#include "cpu/simd.h"

// Inlined into the function with LPS_SIMD_CLONES that calls it, so that it is vectorised for each processor.
#if defined(__GNUC__)
#define LPS_INLINE inline __attribute__((always_inline))
#else
#define LPS_INLINE inline
#endif

namespace lps {
namespace {

constexpr int64_t kGrain = 16;   // rows of bins for one thread: 7 bins of 4 samples of 256 channels are about 1 us
constexpr int kBlock = 64;       // channels that are summed in registers
constexpr int kMaxSamples = 16;  // of a bin, that are blended in one pass over its channels

// The corners of one sample.
struct Corners {
  RoiTap y, x;
  const float *top_low, *top_high, *bottom_low, *bottom_high;
};

template <bool first>
LPS_INLINE void blend_channels(const Corners* samples, int count, int64_t begin, int64_t size, float* out) {
  float sum[kBlock];
  for (int64_t c = 0; c < size; ++c) sum[c] = first ? 0.f : out[begin + c];
  for (int i = 0; i < count; ++i) {
    const Corners s = samples[i];
    for (int64_t c = 0; c < size; ++c)
      sum[c] += roi_blend(s.y, s.x, s.top_low[begin + c], s.top_high[begin + c], s.bottom_low[begin + c],
                          s.bottom_high[begin + c]);
  }
  for (int64_t c = 0; c < size; ++c) out[begin + c] = sum[c];
}

// Adds samples to the channels of a bin; the first ones of a bin overwrite them.
template <bool first>
LPS_SIMD_CLONES void blend(const Corners* samples, int count, int64_t channels, float* out) {
  int64_t begin = 0;
  for (; begin + kBlock <= channels; begin += kBlock) blend_channels<first>(samples, count, begin, kBlock, out);
  if (begin < channels) blend_channels<first>(samples, count, begin, channels - begin, out);
}

// One bin, [channels].
void fill_bin(const RoiPyramid& pyramid, const Roi& roi, int row, int column, float* out) {
  const LpsRoiAlignParams& p = pyramid.params;
  const int height = p.levels.height[roi.level], width = p.levels.width[roi.level];
  Corners samples[kMaxSamples];
  int count = 0;
  bool first = true;
  const auto flush = [&] {
    first ? blend<true>(samples, count, p.channels, out) : blend<false>(samples, count, p.channels, out);
    first = false;
    count = 0;
  };
  for (int i = 0; i < roi.y.samples; ++i) {
    const RoiTap y = roi_tap(roi.y, row, i, height);
    if (!y.inside()) continue;
    for (int j = 0; j < roi.x.samples; ++j) {
      const RoiTap x = roi_tap(roi.x, column, j, width);
      if (!x.inside()) continue;
      if (count == kMaxSamples) flush();
      samples[count++] = {y,
                          x,
                          pyramid.pixel(roi.level, y.low, x.low),
                          pyramid.pixel(roi.level, y.low, x.high),
                          pyramid.pixel(roi.level, y.high, x.low),
                          pyramid.pixel(roi.level, y.high, x.high)};
    }
  }
  flush();
}

}  // namespace

void roi_align_cpu(const RoiPyramid& pyramid, float* out) {
  const LpsRoiAlignParams& p = pyramid.params;
  const int64_t rows = static_cast<int64_t>(p.num_boxes) * p.out_height;
  const int64_t row_size = static_cast<int64_t>(p.out_width) * p.channels;
  parallel_for(rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Roi roi = pyramid.roi(i / p.out_height);
      float* bins = out + i * row_size;
      if (!roi.exists) {
        std::fill_n(bins, row_size, 0.f);
        continue;
      }
      for (int column = 0; column < p.out_width; ++column, bins += p.channels)
        fill_bin(pyramid, roi, static_cast<int>(i % p.out_height), column, bins);
    }
  });
}

}  // namespace lps
