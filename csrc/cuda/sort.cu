#include "cuda/sort.h"

#include <cub/device/device_radix_sort.cuh>

#include "cuda/launch.cuh"

namespace lps {

size_t sort_keys_temporary(int count) {
  size_t size = 0;
  check_cuda(cub::DeviceRadixSort::SortKeys(nullptr, size, static_cast<const uint64_t*>(nullptr),
                                            static_cast<uint64_t*>(nullptr), count),
             "sort");
  return size;
}

void sort_keys(cudaStream_t stream, const uint64_t* keys, uint64_t* sorted, int count, void* temporary,
               size_t temporary_size) {
  if (count == 0) return;
  check_cuda(cub::DeviceRadixSort::SortKeys(temporary, temporary_size, keys, sorted, count, 0, 64, stream), "sort");
}

}  // namespace lps
