// The order in which scored things are taken: descending score, equal scores by ascending index.
#pragma once
#include "core/float_bits.h"

namespace lps {

// Sorting these keys upwards gives that order. The score must not be NaN; -0 and 0 are equal.
LPS_HOST_DEVICE uint64_t descending_key(float score, uint32_t index) {
  const uint32_t bits = float_to_bits(score + 0.f);
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(~ascending) << 32 | index;
}

LPS_HOST_DEVICE uint32_t index_of(uint64_t key) { return static_cast<uint32_t>(key); }

LPS_HOST_DEVICE float score_of(uint64_t key) {
  const uint32_t ascending = ~static_cast<uint32_t>(key >> 32);
  return bits_to_float(ascending & 0x80000000u ? ascending & 0x7fffffffu : ~ascending);
}

}  // namespace lps
