// Stands in for CUDA's header of this name, so that the kernels of csrc/cuda compile as C++ and run on the CPU, over
// host memory: every thread of a block is a fiber, blocks run one after the other. It is slow, and it finds what a
// test on a GPU finds, apart from speed and from races between blocks: wrong indices (under AddressSanitizer reads
// and writes out of bounds too), a missing barrier (threads run in a shuffled order), a barrier that not all threads
// reach.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(4) uchar4 {
  unsigned char x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) { return {x, y, z, w}; }

// Of the fiber that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulation {

extern void* dynamic_shared;

void sync_block();
// Waits for the threads of the mask and returns the values that they gave, by lane.
const uint64_t* exchange(unsigned mask, uint64_t value);
// Every thread calls it once it has read what `exchange` returned.
void sync_warp(unsigned mask);
int lane();
void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel);

template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <typename T>
T read_lane(unsigned mask, T value, int source) {
  T result;
  std::memcpy(&result, exchange(mask, to_bits(value)) + (source & 31), sizeof result);
  sync_warp(mask);
  return result;
}

}  // namespace emulation

inline void* emulated_dynamic_shared() { return emulation::dynamic_shared; }

inline void __syncthreads() { emulation::sync_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulation::sync_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* given = emulation::exchange(mask, predicate != 0);
  unsigned result = 0;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1u && given[i]) result |= 1u << i;
  emulation::sync_warp(mask);
  return result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

// Width 32 only.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
  return emulation::read_lane(mask, value, source);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return emulation::read_lane(mask, value, emulation::lane() ^ lanes);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes) {
  const int source = emulation::lane() + static_cast<int>(lanes);
  return emulation::read_lane(mask, value, source < 32 ? source : emulation::lane());
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes) {
  const int source = emulation::lane() - static_cast<int>(lanes);
  return emulation::read_lane(mask, value, source >= 0 ? source : emulation::lane());
}

template <typename T, typename U>
T atomicAdd(T* address, U value) {
  const T old = *address;
  *address = static_cast<T>(old + static_cast<T>(value));
  return old;
}
template <typename T, typename U>
T atomicOr(T* address, U value) {
  const T old = *address;
  *address = static_cast<T>(old | static_cast<T>(value));
  return old;
}
template <typename T, typename U>
T atomicMin(T* address, U value) {
  const T old = *address;
  if (static_cast<T>(value) < old) *address = static_cast<T>(value);
  return old;
}
template <typename T, typename U>
T atomicMax(T* address, U value) {
  const T old = *address;
  if (static_cast<T>(value) > old) *address = static_cast<T>(value);
  return old;
}
template <typename T, typename U>
T atomicExch(T* address, U value) {
  const T old = *address;
  *address = static_cast<T>(value);
  return old;
}
template <typename T, typename U, typename V>
T atomicCAS(T* address, U expected, V value) {
  const T old = *address;
  if (old == static_cast<T>(expected)) *address = static_cast<T>(value);
  return old;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
template <typename T>
T __ldg(const T* address) {
  return *address;
}
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// The parts of the runtime that the launches use. ---------------------------------------------------------------
enum cudaError_t { cudaSuccess = 0, cudaErrorNoDevice = 100 };
using cudaStream_t = struct CUstream_st*;
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};

inline const char* cudaGetErrorString(cudaError_t status) { return status == cudaSuccess ? "no error" : "no device"; }
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75 };
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 8;
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* memory, int value, size_t size, cudaStream_t) {
  std::memset(memory, value, size);
  return cudaSuccess;
}
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, size);
  return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
  // Each thread has its own copy of the parameters, as on the GPU.
  emulation::run(config->gridDim, config->blockDim, config->dynamicSmemBytes,
                 [&] { std::apply(kernel, std::tuple<Parameters...>(arguments...)); });
  return cudaSuccess;
}
