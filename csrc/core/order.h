// The order in which scored things are taken: descending score, equal scores by ascending index.
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/host_device.h"

namespace lps {

LPS_HOST_DEVICE uint32_t float_bits(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

// Sorting these keys upwards gives that order. The score must not be NaN; -0 and 0 are equal.
LPS_HOST_DEVICE uint64_t descending_key(float score, uint32_t index) {
  const uint32_t bits = float_bits(score + 0.f);
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(~ascending) << 32 | index;
}

LPS_HOST_DEVICE uint32_t index_of(uint64_t key) { return static_cast<uint32_t>(key); }

}  // namespace lps
