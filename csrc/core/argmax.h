// The best class of a pixel, and which classes can be it anywhere between four neighbouring logits.
#pragma once
#include <stdint.h>

#include "core/host_device.h"

namespace lps {

constexpr uint8_t kVoid = 255;

// Classes are offered in ascending order, so that of equal values the lowest class wins. NaN and -infinity never win.
LPS_HOST_DEVICE bool beats(float value, float best) { return value > best; }
constexpr float kWorstValue = -__builtin_huge_valf();

// A bilinear value lies between the smallest and the largest of its four corners, so a class whose largest corner is
// below the smallest corner of another class loses in the whole cell. Rounding blurs both bounds. With u = 2^-24 and M
// the largest magnitude among the corners, `lerp` errs by at most 5 u M: 2 in its difference, 2 in its product, 1 in
// its sum. A bilinear value is a lerp of lerps: 10 u M, and 20 u M for the two bounds together, less than the 32 u M
// taken here. The absolute part covers underflow.
LPS_HOST_DEVICE float rounding_margin(float largest_magnitude) { return largest_magnitude * 0x1p-19f + 0x1p-120f; }

// From this magnitude on a difference of corners may overflow and the bounds do not hold; nor do they for NaN.
constexpr float kLargestBounded = 0x1p120f;

}  // namespace lps
