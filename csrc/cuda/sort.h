// Sorting on the device, by CUB.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace lps {

// Bytes of temporary memory that `sort_keys` wants for so many keys.
size_t sort_keys_temporary(int count);

// Sorts `count` keys upwards from one array to another, on the stream, without synchronisation.
void sort_keys(cudaStream_t stream, const uint64_t* keys, uint64_t* sorted, int count, void* temporary,
               size_t temporary_size);

}  // namespace lps
