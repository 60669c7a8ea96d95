#include "cpu/widen.h"

#include <algorithm>

#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace lps {
namespace {

constexpr int64_t kGrain = 1 << 16;
constexpr int64_t kSide = 16;  // channels last is turned around in squares of this side, which stay in the cache

template <typename T>
LPS_SIMD_CLONES void widen_run(const T* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

// Pixels begin .. end - 1 of [pixels, classes] into [classes, pixels].
template <typename T>
LPS_SIMD_CLONES void turn(const T* from, int64_t classes, int64_t pixels, int64_t begin, int64_t end, float* to) {
  for (int64_t first = begin; first < end; first += kSide) {
    const int64_t last = std::min(first + kSide, end);
    for (int64_t c = 0; c < classes; ++c)
      for (int64_t i = first; i < last; ++i) to[c * pixels + i] = widen(from[i * classes + c]);
  }
}

}  // namespace

size_t widened_size(const LogitsFormat& format) {
  return format.is_plain() ? 0 : static_cast<size_t>(format.num_classes) * format.height * format.width;
}

const float* widen_logits_cpu(const LogitsFormat& format, const void* logits, float* widened) {
  if (format.is_plain()) return static_cast<const float*>(logits);
  const int64_t pixels = static_cast<int64_t>(format.height) * format.width;
  with_dtype(format.dtype, [&](auto number) {
    const auto* from = static_cast<const decltype(number)*>(logits);
    if (format.channels_last)
      parallel_for(pixels, 1 + kGrain / format.num_classes,
                   [&](int64_t begin, int64_t end) { turn(from, format.num_classes, pixels, begin, end, widened); });
    else
      parallel_for(pixels * format.num_classes, kGrain,
                   [&](int64_t begin, int64_t end) { widen_run(from + begin, end - begin, widened + begin); });
  });
  return widened;
}

}  // namespace lps
