// How the caller's workspace is cut into pieces.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace lps {

constexpr size_t kAlignment = 256;

// Hands out aligned pieces of a workspace; over a null pointer it only counts.
class Carver {
 public:
  // The caller's pointer may stand anywhere; `size` has room for that.
  explicit Carver(void* base)
      : base_(reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(base) + kAlignment - 1) / kAlignment * kAlignment)) {
  }

  template <typename T>
  T* take(size_t count) {
    T* piece = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  size_t size() const { return used_ + kAlignment; }

 private:
  char* base_;
  size_t used_ = 0;
};

// The size of a workspace of `count` values of one type.
template <typename T>
size_t workspace_of(size_t count) {
  if (count == 0) return 0;
  Carver carver(nullptr);
  carver.take<T>(count);
  return carver.size();
}

}  // namespace lps
