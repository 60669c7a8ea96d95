#include "cpu/resize_normalize.h"

#include "api/status.h"
#include "core/float_bits.h"
#include "cuda/resize_normalize.h"

namespace {

LpsStatus check_params(const LpsResizeNormalizeParams& p) {
  const auto invalid = [](const char* name, const char* expected, auto got) {
    return lps::invalid("resize_normalize", name, expected, got);
  };
  if (p.in_height < 1) return invalid("in_height", "at least 1", p.in_height);
  if (p.in_width < 1) return invalid("in_width", "at least 1", p.in_width);
  if (p.in_row_stride < int64_t{3} * p.in_width)
    return invalid("in_row_stride", "at least 3 * in_width", p.in_row_stride);
  if (p.resized_height < 1) return invalid("resized_height", "at least 1", p.resized_height);
  if (p.resized_width < 1) return invalid("resized_width", "at least 1", p.resized_width);
  if (p.out_height < p.resized_height) return invalid("out_height", "at least resized_height", p.out_height);
  if (p.out_width < p.resized_width) return invalid("out_width", "at least resized_width", p.out_width);
  for (int c = 0; c < 3; ++c) {
    if (!lps::is_finite(p.mean[c])) return invalid("mean", "finite numbers", p.mean[c]);
    if (!(p.std[c] > 0.f)) return invalid("std", "numbers above 0", p.std[c]);
  }
  LPS_RETURN_IF_FAILED(lps::check_flag("resize_normalize", "reverse_channels", p.reverse_channels));
  LPS_RETURN_IF_FAILED(lps::check_flag("resize_normalize", "channels_last", p.channels_last));
  return lps::check_dtype("resize_normalize", "out_dtype", p.out_dtype);
}

size_t workspace_size(const LpsResizeNormalizeParams& p, int32_t device) {
  if constexpr (lps::kHasCuda)
    if (device == LPS_CUDA) return lps::resize_normalize_cuda_workspace(p);
  return 0;
}

}  // namespace

size_t lps_resize_normalize_workspace_size(const LpsResizeNormalizeParams* params, LpsDevice device) {
  return params != nullptr && check_params(*params) == LPS_OK ? workspace_size(*params, device) : 0;
}

LpsStatus lps_resize_normalize(const LpsResizeNormalizeParams* params, const LpsContext* context, const uint8_t* image,
                               void* out) {
  LPS_RETURN_IF_FAILED(lps::check_pointer("resize_normalize", "params", params));
  LPS_RETURN_IF_FAILED(check_params(*params));
  LPS_RETURN_IF_FAILED(lps::check_device("resize_normalize", context));
  LPS_RETURN_IF_FAILED(lps::check_pointer("resize_normalize", "image", image));
  LPS_RETURN_IF_FAILED(lps::check_pointer("resize_normalize", "out", out));
  LPS_RETURN_IF_FAILED(lps::check_workspace("resize_normalize", context, workspace_size(*params, context->device)));
  return lps::guarded("resize_normalize", [&] {
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA) return lps::resize_normalize_cuda(*params, *context, image, out);
    lps::resize_normalize_cpu(*params, image, out);
  });
}
