#include "cpu/deform_conv2d.h"

#include "api/deform_axis.h"
#include "cuda/deform_conv2d.h"

namespace lps {
namespace {

// So many that an int32 counts them.
LpsStatus check_pixels(const char* op, const char* name, int64_t batch, int64_t height, int64_t width) {
  const int64_t image = height * width;
  if (image <= INT32_MAX && batch * image <= INT32_MAX) return LPS_OK;
  return invalid(op, name, "a product below 2^31",
                 std::to_string(batch) + ", " + std::to_string(height) + ", " + std::to_string(width));
}

LpsStatus check(const LpsDeformConv2dParams& p) {
  constexpr const char* op = "deform_conv2d";
  LPS_RETURN_IF_FAILED(check_dtype(op, "dtype", p.dtype));
  if (p.batch < 0) return invalid(op, "batch", "at least 0", p.batch);
  if (p.channels < 1) return invalid(op, "channels", "at least 1", p.channels);
  if (p.out_channels < 1) return invalid(op, "out_channels", "at least 1", p.out_channels);
  if (p.offset_groups < 1 || p.channels % p.offset_groups != 0)
    return invalid(op, "offset_groups", "a divisor of channels", p.offset_groups);
  LPS_RETURN_IF_FAILED(check_flag(op, "modulated", p.modulated));
  LPS_RETURN_IF_FAILED(
      check_axis(op, "out_height", p.height, p.out_height, p.kernel_h, p.stride_h, p.padding_h, p.dilation_h));
  LPS_RETURN_IF_FAILED(
      check_axis(op, "out_width", p.width, p.out_width, p.kernel_w, p.stride_w, p.padding_w, p.dilation_w));
  if (static_cast<int64_t>(p.kernel_h) * p.kernel_w > INT32_MAX)
    return invalid(op, "kernel_h, kernel_w", "a product below 2^31", p.kernel_h);
  LPS_RETURN_IF_FAILED(check_pixels(op, "batch, height, width", p.batch, p.height, p.width));
  return check_pixels(op, "batch, out_height, out_width", p.batch, p.out_height, p.out_width);
}

}  // namespace
}  // namespace lps

size_t lps_deform_conv2d_workspace_size(const LpsDeformConv2dParams*, LpsDevice) { return 0; }

LpsStatus lps_deform_conv2d(const LpsDeformConv2dParams* params, const LpsContext* context, const void* input,
                            const float* offset, const float* mask, const void* weight, const float* bias, void* out) {
  constexpr const char* op = "deform_conv2d";
  LPS_RETURN_IF_FAILED(lps::check(*params));
  LPS_RETURN_IF_FAILED(lps::check_device(op, context));
  const bool any = params->batch > 0;
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "input", input, any));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "offset", offset, any));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "mask", mask, any && params->modulated));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "weight", weight, any));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "out", out, any));
  if (!any) return LPS_OK;
  return lps::guarded(op, [&] {
    const lps::DeformConv2d conv{*params, offset, params->modulated ? mask : nullptr};
    lps::with_dtype(params->dtype, [&](auto type) {
      using T = decltype(type);
      if constexpr (lps::kHasCuda)
        if (context->device == LPS_CUDA)
          return lps::deform_conv2d_cuda(conv, context->stream, static_cast<const T*>(input),
                                         static_cast<const T*>(weight), bias, static_cast<T*>(out));
      lps::deform_conv2d_cpu(conv, static_cast<const T*>(input), static_cast<const T*>(weight), bias,
                             static_cast<T*>(out));
    });
  });
}
