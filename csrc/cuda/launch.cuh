// How kernels are launched and how what goes wrong is reported.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "core/device_error.h"

namespace lps {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw DeviceError(std::string(what) + ": " + cudaGetErrorString(status));
}

// Puts a kernel on a stream. Its arguments convert to the types of its parameters.
template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(Parameters...),
            const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launch of a kernel");
}

// Blocks of `block` threads for `count` pieces of work; at least one, so that an empty launch stays a launch.
inline unsigned blocks_for(int64_t count, int block) {
  return static_cast<unsigned>(count > 0 ? (count + block - 1) / block : 1);
}

// Number of this thread in the grid, of one dimension.
__device__ inline int64_t global_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

// The shared memory that the launch asked for.
template <typename T>
__device__ T* dynamic_shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char lps_dynamic_shared[];
  return reinterpret_cast<T*>(lps_dynamic_shared);
#else
  return static_cast<T*>(emulated_dynamic_shared());
#endif
}

}  // namespace lps
