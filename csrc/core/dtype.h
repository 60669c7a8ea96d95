// The numbers that an array may hold. Whatever they are, mathematics is done in float32.
#pragma once
#include "core/half.h"
#include "lpsnet.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace lps {

struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

LPS_HOST_DEVICE float widen(float value) { return value; }
LPS_HOST_DEVICE float widen(BFloat16 value) { return bfloat16_to_float(value.bits); }
LPS_HOST_DEVICE float widen(Float16 value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));  // one instruction
#else
  return half_to_float(value.bits);
#endif
}

// Rounds to the nearest.
template <typename T>
LPS_HOST_DEVICE T narrow(float value) {
  return value;
}
template <>
LPS_HOST_DEVICE BFloat16 narrow<BFloat16>(float value) {
  return {float_to_bfloat16(value)};
}
template <>
LPS_HOST_DEVICE Float16 narrow<Float16>(float value) {
#ifdef __CUDA_ARCH__
  return {__half_as_ushort(__float2half_rn(value))};
#else
  return {float_to_half(value)};
#endif
}

// Calls body(T{}) for the type that a checked LpsDtype names.
template <typename Body>
void with_dtype(int32_t dtype, Body&& body) {
  if (dtype == LPS_FLOAT16) return body(Float16{});
  if (dtype == LPS_BFLOAT16) return body(BFloat16{});
  body(float{});
}

inline size_t size_of(int32_t dtype) { return dtype == LPS_FLOAT32 ? sizeof(float) : sizeof(uint16_t); }

}  // namespace lps
