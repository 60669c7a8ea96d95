// The instructions of the tensor cores and of what feeds them. tests/cuda_emulation has the same in C++.
#pragma once
#include <cuda_runtime.h>

#include "core/dtype.h"

#ifndef __CUDACC__
#include "emulated_mma.h"
#else
#include <cuda_bf16.h>

namespace lps {

// Starts to copy 16 bytes to shared memory, zeros unless `exists`; both addresses are multiples of 16.
__device__ inline void copy_16_bytes(void* shared, const void* global, bool exists) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(shared))),
      "l"(global), "r"(exists ? 16 : 0)
      : "memory");
#else
  *static_cast<uint4*>(shared) = exists ? __ldg(static_cast<const uint4*>(global)) : uint4{0, 0, 0, 0};
#endif
}

// Waits for the copies of this thread; a barrier shows them to the others.
__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// sum (16 x 8) += a (16 x 16) b (16 x 8), with g = lane / 4 and t = lane % 4:
//   sum: rows g, g + 8 (the last two), columns 2 t, 2 t + 1
//   a: rows g, g + 8, g, g + 8; columns 2 t, 2 t + 1, in the last two + 8
//   b: column g; rows 2 t, 2 t + 1, in the second + 8
__device__ inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Float16) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}
__device__ inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, BFloat16) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  __trap();  // older ones have no such instruction and are not asked
#endif
}

// Two numbers that lie in one word, the first in the lower half, and back, rounded to the nearest.
__device__ inline float2 widen_pair(uint32_t pair, Float16) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}
__device__ inline float2 widen_pair(uint32_t pair, BFloat16) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}
__device__ inline uint32_t narrow_pair(float first, float second, Float16) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline uint32_t narrow_pair(float first, float second, BFloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

}  // namespace lps
#endif
