// In the place of csrc/cuda/sort.cu, whose library does not compile as C++.
#include "cuda/sort.h"

#include <algorithm>

namespace lps {

size_t sort_keys_temporary(int) { return 8; }

void sort_keys(cudaStream_t, const uint64_t* keys, uint64_t* sorted, int count, void*, size_t) {
  std::copy_n(keys, count, sorted);
  std::sort(sorted, sorted + count);
}

}  // namespace lps
