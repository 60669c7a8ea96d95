// The check that the deformable operators share.
#pragma once
#include "api/status.h"

namespace lps {

// One axis: sizes that are positive, coordinates that fit an int32, and the output size that follows from the others.
inline LpsStatus check_axis(const char* op, const char* out_name, int64_t size, int64_t out_size, int64_t kernel,
                            int64_t stride, int64_t padding, int64_t dilation) {
  if (size < 1) return invalid(op, "height, width", "at least 1", size);
  if (kernel < 1) return invalid(op, "kernel", "at least 1", kernel);
  if (stride < 1) return invalid(op, "stride", "at least 1", stride);
  if (padding < 0) return invalid(op, "padding", "at least 0", padding);
  if (dilation < 1) return invalid(op, "dilation", "at least 1", dilation);
  const int64_t padded = size + 2 * padding, window = dilation * (kernel - 1) + 1;
  if (padded > INT32_MAX) return invalid(op, "height, width", "below 2^31 with the padding", padded);
  if (padded < window) return invalid(op, "kernel", "a window within the padded input", window);
  const int64_t expected = (padded - window) / stride + 1;
  if (out_size != expected) return invalid(op, out_name, std::to_string(expected).c_str(), out_size);
  return LPS_OK;
}

}  // namespace lps
