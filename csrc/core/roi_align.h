// RoIAlign (He et al., ICCV 2017): which level of a pyramid a box reads (Lin et al., CVPR 2017), and where and with
// which weights its bins do.
#pragma once
#include "core/bilinear.h"
#include "core/box.h"

namespace lps {

// FPN's equation 1, floor(k0 + log2(sqrt(w h) / canonical_size)), clamped to the levels: level i from 1 on begins at an
// area of canonical_size^2 * 4^(i - k0). Multiplying by powers of 4 is exact, so every processor agrees.
LPS_HOST_DEVICE int roi_level(const Box& box, int canonical_level, float canonical_size, int num_levels) {
  float begin = canonical_size * canonical_size;
  for (int i = 1; i < canonical_level; ++i) begin *= 0.25f;
  if (canonical_level == 0) begin *= 4.f;
  const float size = area(box);
  int level = 0;
  while (level + 1 < num_levels && size >= begin) {
    ++level;
    begin *= 4.f;
  }
  return level;
}

// The bins of a box along one axis, in feature pixels, pixel i covering [i, i + 1).
struct RoiAxis {
  float start, bin;
  int samples;  // per bin
};

// A sampling_ratio of 0 takes ceil(bin) samples, at least 1 and at most as many as the map has pixels. An end before
// the start counts as the start.
LPS_HOST_DEVICE RoiAxis roi_axis(float low, float high, float stride, int bins, int sampling_ratio, int size) {
  const float start = low / stride;
  float length = high / stride - start;
  if (!(length > 0.f)) length = 0.f;
  const float bin = length / static_cast<float>(bins);
  int samples = sampling_ratio;
  if (samples == 0) {
    samples = bin < static_cast<float>(size) ? static_cast<int>(bin) : size;
    if (samples < size && static_cast<float>(samples) < bin) ++samples;
    if (samples < 1) samples = 1;
  }
  return {start, bin, samples};
}

// One axis of one sample: value = map[low] * low_weight + map[high] * high_weight. The weights add up to 1 / samples,
// so that the sum over the samples of a bin is their mean. Up to one pixel outside the centres of the map the border is
// read; further out a sample is 0.
struct RoiTap {
  int low, high;
  float low_weight, high_weight;

  LPS_HOST_DEVICE bool inside() const { return low >= 0; }
};

LPS_HOST_DEVICE RoiTap roi_tap(const RoiAxis& axis, int bin, int sample, int size) {
  const float offset = (static_cast<float>(sample) + 0.5f) * axis.bin / static_cast<float>(axis.samples);
  const float coordinate = (axis.start + static_cast<float>(bin) * axis.bin) + offset;
  if (!(coordinate >= -0.5f && coordinate <= static_cast<float>(size) + 0.5f)) return {-1, -1, 0.f, 0.f};
  const LinearTap tap = linear_tap(coordinate, size);
  const float share = 1.f / static_cast<float>(axis.samples);
  return {tap.low, tap.high, (1.f - tap.weight) * share, tap.weight * share};
}

// A box on its level. A box that is not finite, or whose level does not exist, has no bins: its output is 0.
struct Roi {
  bool exists;
  int level;
  RoiAxis y, x;
};

// The order of these operations is part of the definition: every caller rounds alike.
LPS_HOST_DEVICE float roi_blend(const RoiTap& y, const RoiTap& x, float top_low, float top_high, float bottom_low,
                                float bottom_high) {
  return y.low_weight * (x.low_weight * top_low + x.high_weight * top_high) +
         y.high_weight * (x.low_weight * bottom_low + x.high_weight * bottom_high);
}

}  // namespace lps
