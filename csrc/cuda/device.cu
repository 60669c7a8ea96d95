#include "cuda/device.h"

#include <cuda_runtime.h>

namespace lps {

int32_t count_cuda_devices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace lps
