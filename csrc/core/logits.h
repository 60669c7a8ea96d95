// Class scores over a map, in one of two layouts.
#pragma once
#include "core/bilinear.h"
#include "core/dtype.h"

namespace lps {

// What the parameters of an operator say of its logits.
struct LogitsFormat {
  int32_t num_classes, height, width, dtype, channels_last;

  bool is_plain() const { return dtype == LPS_FLOAT32 && !channels_last; }
};

inline LogitsFormat format_of(const LpsDecodeParams& p) {
  return {p.num_classes, p.logits_height, p.logits_width, p.logits_dtype, p.logits_channels_last};
}
inline LogitsFormat format_of(const LpsUpsampleArgmaxParams& p) {
  return {p.num_classes, p.in_height, p.in_width, p.logits_dtype, p.logits_channels_last};
}
inline LogitsFormat format_of(const LpsPostprocessParams& p) {
  return {p.num_classes, p.logits_height, p.logits_width, p.logits_dtype, p.logits_channels_last};
}

// The four logits of a class around a point, in the layout [class][row][column] or [row][column][class].
template <typename T, bool kChannelsLast>
struct Logits {
  const T* data;
  int num_classes, height, width;

  LPS_HOST_DEVICE float at(int cls, int row, int column) const {
    const int64_t pixel = static_cast<int64_t>(row) * width + column;
    return widen(kChannelsLast ? data[pixel * num_classes + cls]
                               : data[static_cast<int64_t>(cls) * height * width + pixel]);
  }
  LPS_HOST_DEVICE float bilinear(int cls, const LinearTap& y, const LinearTap& x) const {
    return lerp(lerp(at(cls, y.low, x.low), at(cls, y.low, x.high), x.weight),
                lerp(at(cls, y.high, x.low), at(cls, y.high, x.high), x.weight), y.weight);
  }
};

// Calls body(Logits<...>) for the format.
template <typename Body>
void with_logits(const LogitsFormat& format, const void* data, Body&& body) {
  with_dtype(format.dtype, [&](auto number) {
    using T = decltype(number);
    const T* numbers = static_cast<const T*>(data);
    if (format.channels_last)
      body(Logits<T, true>{numbers, format.num_classes, format.height, format.width});
    else
      body(Logits<T, false>{numbers, format.num_classes, format.height, format.width});
  });
}

}  // namespace lps
