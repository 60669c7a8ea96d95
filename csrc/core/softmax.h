// The exponential of softmax, written out so that it vectorises and gives the same bits everywhere.
#pragma once
#include "core/float_bits.h"

namespace lps {

// exp(x) for x <= 0, relative error below 2e-7 (two units in the last place); 0 where x < -87, NaN for NaN.
//
// x = n ln 2 + r with |r| <= ln(2) / 2, so exp(x) = 2^n exp(r); the polynomial of exp(r) is Taylor's up to r^6.
LPS_HOST_DEVICE float exp_of_nonpositive(float x) {
  const float round_to_int = 12582912.f;  // 1.5 * 2^23: adding it leaves the nearest integer in the lowest bits
  const float shifted = x * 1.44269504f + round_to_int;
  const float n = shifted - round_to_int;
  // ln 2 in two parts, the first so short that its product with n is exact.
  const float r = x - n * 0.693359375f - n * -2.12194440e-4f;
  float p = 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.f;
  const float power = bits_to_float((float_to_bits(shifted) + 127u) << 23);
  return x < -87.f ? 0.f : p * power;
}

}  // namespace lps
