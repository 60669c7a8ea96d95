// The functions of csrc/cuda/mma.cuh in C++, with the layouts of registers that the PTX manual gives for mma.m16n8k16.
// A copy is made when it is waited for, so that a wait that is missing shows.
#pragma once
#include <vector>

namespace emulation {

struct Copy {
  void* shared;
  const void* global;
  bool exists;
};
struct MmaLane {
  uint32_t a[4], b[2];
};
inline std::vector<Copy> copies[1024];
inline MmaLane mma_lanes[1024];

inline uint16_t mma_element(uint32_t pair, int which) { return static_cast<uint16_t>(which ? pair >> 16 : pair); }

}  // namespace emulation

namespace lps {

inline void copy_16_bytes(void* shared, const void* global, bool exists) {
  emulation::copies[threadIdx.x].push_back({shared, global, exists});
}

inline void wait_for_copies() {
  for (const emulation::Copy& copy : emulation::copies[threadIdx.x])
    *static_cast<uint4*>(copy.shared) = copy.exists ? *static_cast<const uint4*>(copy.global) : uint4{};
  emulation::copies[threadIdx.x].clear();
}

template <typename T>
void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, T) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32 * 32, lane = thread % 32;
  emulation::MmaLane& own = emulation::mma_lanes[thread];
  std::memcpy(own.a, a, sizeof own.a);
  own.b[0] = b0;
  own.b[1] = b1;
  __syncwarp();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    double total = sum[i];
    for (int k = 0; k < 16; ++k) {
      const int holder = k % 8 / 2, upper = k / 8;
      const uint32_t left = emulation::mma_lanes[warp + row % 8 * 4 + holder].a[row / 8 + 2 * upper];
      const uint32_t right = emulation::mma_lanes[warp + column * 4 + holder].b[upper];
      total += static_cast<double>(widen(T{emulation::mma_element(left, k % 2)})) *
               widen(T{emulation::mma_element(right, k % 2)});
    }
    sum[i] = static_cast<float>(total);
  }
  __syncwarp();
}

template <typename T>
float2 widen_pair(uint32_t pair, T) {
  return {widen(T{emulation::mma_element(pair, 0)}), widen(T{emulation::mma_element(pair, 1)})};
}
template <typename T>
uint32_t narrow_pair(float first, float second, T) {
  return narrow<T>(first).bits | static_cast<uint32_t>(narrow<T>(second).bits) << 16;
}

}  // namespace lps
