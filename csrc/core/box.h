// Boxes as (x1, y1, x2, y2) with x2, y2 exclusive.
#pragma once
#include "core/float_bits.h"

namespace lps {

struct Box {
  float x1, y1, x2, y2;
};

LPS_HOST_DEVICE float area(const Box& b) { return b.x2 > b.x1 && b.y2 > b.y1 ? (b.x2 - b.x1) * (b.y2 - b.y1) : 0.f; }

LPS_HOST_DEVICE Box intersection(const Box& a, const Box& b) {
  return {a.x1 > b.x1 ? a.x1 : b.x1, a.y1 > b.y1 ? a.y1 : b.y1,  //
          a.x2 < b.x2 ? a.x2 : b.x2, a.y2 < b.y2 ? a.y2 : b.y2};
}

LPS_HOST_DEVICE bool is_finite(const Box& b) {
  return is_finite(b.x1) && is_finite(b.y1) && is_finite(b.x2) && is_finite(b.y2);
}

// IoU(a, b) > threshold, from boxes with their areas, in the operations and the order of torchvision and of ONNX
// Runtime, so that a tie is one everywhere. The IoU of an empty union is NaN, which is above no threshold.
LPS_HOST_DEVICE bool overlaps(const Box& a, float area_a, const Box& b, float area_b, float threshold) {
  const float shared = area(intersection(a, b));
  return shared / (area_a + area_b - shared) > threshold;
}

LPS_HOST_DEVICE bool overlaps(const Box& a, const Box& b, float threshold) {
  return overlaps(a, area(a), b, area(b), threshold);
}

}  // namespace lps
