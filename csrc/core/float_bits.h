// Floats as the bits that store them.
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/host_device.h"

namespace lps {

LPS_HOST_DEVICE uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

LPS_HOST_DEVICE float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Neither NaN nor infinite.
LPS_HOST_DEVICE bool is_finite(float value) { return value - value == 0.f; }

}  // namespace lps
