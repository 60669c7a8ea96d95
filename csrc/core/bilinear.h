// Bilinear reading of a map whose pixel i has its centre at i + 0.5, clamped at the borders.
#pragma once
#include "core/host_device.h"

namespace lps {

// One axis of a bilinear read: value = map[low] * (1 - weight) + map[high] * weight.
struct LinearTap {
  int low, high;
  float weight;
};

// The tap at a continuous coordinate (0.5 is the centre of pixel 0) of an axis of `size` pixels, at least 1.
LPS_HOST_DEVICE LinearTap linear_tap(float coordinate, int size) {
  float index = coordinate - 0.5f;
  if (!(index > 0.f)) index = 0.f;  // also NaN
  const float last = static_cast<float>(size - 1);
  if (index > last) index = last;
  const int low = static_cast<int>(index);
  const int high = low + 1 < size ? low + 1 : low;
  return {low, high, index - static_cast<float>(low)};
}

// The order of these operations is part of the definition: every caller rounds alike.
LPS_HOST_DEVICE float lerp(float low, float high, float weight) { return low + (high - low) * weight; }

LPS_HOST_DEVICE float bilinear(const float* map, int width, const LinearTap& y, const LinearTap& x) {
  const float* top = map + static_cast<long long>(y.low) * width;
  const float* bottom = map + static_cast<long long>(y.high) * width;
  return lerp(lerp(top[x.low], top[x.high], x.weight), lerp(bottom[x.low], bottom[x.high], x.weight), y.weight);
}

}  // namespace lps
