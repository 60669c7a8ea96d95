// How far inside a box a point is: 1 at its centre, 0 on its border.
#pragma once
#include <math.h>

#include "core/box.h"
#include "core/host_device.h"

namespace lps {

// The smaller of two distances over the larger, of a point in [begin, end).
LPS_HOST_DEVICE float balance(float point, float begin, float end) {
  const float before = point - begin, after = end - point;
  return (before < after ? before : after) / (before < after ? after : before);
}

// sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), equation 1 of the paper with the sides of the box, for a point
// inside. The order of these operations is part of the definition.
LPS_HOST_DEVICE float borderness(const Box& box, float x, float y) {
  return sqrtf(balance(x, box.x1, box.x2) * balance(y, box.y1, box.y2));
}

// How far a predicted border-ness is from that of the box. What is not a number is as far as can be.
LPS_HOST_DEVICE float borderness_gap(const Box& box, float x, float y, float predicted) {
  const float gap = fabsf(borderness(box, x, y) - predicted);
  return gap == gap ? gap : __builtin_huge_valf();
}

}  // namespace lps
