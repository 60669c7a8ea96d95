// Vector code without intrinsics: a function marked LPS_SIMD_CLONES is compiled for several generations of the
// processor and the best one is chosen when the library is loaded. -ffp-contract=off keeps their results equal.
#pragma once

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(LPS_SANITIZE) && \
    ((defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12) || (defined(__clang__) && __clang_major__ >= 17))
#define LPS_SIMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define LPS_SIMD_CLONES
#endif

namespace lps {

// Asks for the cache line at an address that will be read soon.
inline void prefetch(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#else
  (void)address;
#endif
}

}  // namespace lps
