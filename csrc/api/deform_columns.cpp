#include "cpu/deform_columns.h"

#include "api/deform_axis.h"
#include "cuda/deform_columns.h"

namespace lps {
namespace {

LpsStatus check(const char* op, const LpsDeformColumnsParams& p, const LpsContext* context) {
  if (p.dtype != LPS_FLOAT32 && p.dtype != LPS_FLOAT64)
    return invalid(op, "dtype", "LPS_FLOAT32 (0) or LPS_FLOAT64 (1)", p.dtype);
  if (p.channels < 1) return invalid(op, "channels", "at least 1", p.channels);
  if (p.offset_groups < 1 || p.channels % p.offset_groups != 0)
    return invalid(op, "offset_groups", "a divisor of channels", p.offset_groups);
  LPS_RETURN_IF_FAILED(
      check_axis(op, "out_height", p.height, p.out_height, p.kernel_h, p.stride_h, p.padding_h, p.dilation_h));
  LPS_RETURN_IF_FAILED(
      check_axis(op, "out_width", p.width, p.out_width, p.kernel_w, p.stride_w, p.padding_w, p.dilation_w));
  const int64_t positions = static_cast<int64_t>(p.out_height) * p.out_width;
  if (p.begin < 0 || p.begin > p.end || p.end > positions)
    return invalid(op, "begin, end", ("0 <= begin <= end <= " + std::to_string(positions)).c_str(),
                   std::to_string(p.begin) + ", " + std::to_string(p.end));
  return check_device(op, context);
}

// Calls body with a T* of the params' dtype, to tell it the type.
template <typename Body>
void with_dtype(int32_t dtype, Body&& body) {
  dtype == LPS_FLOAT64 ? body(static_cast<double*>(nullptr)) : body(static_cast<float*>(nullptr));
}

}  // namespace
}  // namespace lps

size_t lps_deform_columns_workspace_size(const LpsDeformColumnsParams*, LpsDevice) { return 0; }
size_t lps_deform_columns_backward_workspace_size(const LpsDeformColumnsParams*, LpsDevice) { return 0; }

LpsStatus lps_deform_columns(const LpsDeformColumnsParams* params, const LpsContext* context, const void* input,
                             const void* offset, const void* mask, void* columns) {
  LPS_RETURN_IF_FAILED(lps::check("deform_columns", *params, context));
  return lps::guarded("deform_columns", [&] {
    lps::with_dtype(params->dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      if constexpr (lps::kHasCuda)
        if (context->device == LPS_CUDA)
          return lps::deform_columns_cuda(*params, context->stream, static_cast<const T*>(input),
                                          static_cast<const T*>(offset), static_cast<const T*>(mask),
                                          static_cast<T*>(columns));
      lps::deform_columns_cpu(*params, static_cast<const T*>(input), static_cast<const T*>(offset),
                              static_cast<const T*>(mask), static_cast<T*>(columns));
    });
  });
}

LpsStatus lps_deform_columns_backward(const LpsDeformColumnsParams* params, const LpsContext* context,
                                      const void* input, const void* offset, const void* mask, const void* grad_columns,
                                      void* grad_input, void* grad_offset, void* grad_mask) {
  LPS_RETURN_IF_FAILED(lps::check("deform_columns_backward", *params, context));
  return lps::guarded("deform_columns_backward", [&] {
    lps::with_dtype(params->dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      if constexpr (lps::kHasCuda)
        if (context->device == LPS_CUDA)
          return lps::deform_columns_backward_cuda(*params, context->stream, static_cast<const T*>(input),
                                                   static_cast<const T*>(offset), static_cast<const T*>(mask),
                                                   static_cast<const T*>(grad_columns), static_cast<T*>(grad_input),
                                                   static_cast<T*>(grad_offset), static_cast<T*>(grad_mask));
      lps::deform_columns_backward_cpu(*params, static_cast<const T*>(input), static_cast<const T*>(offset),
                                       static_cast<const T*>(mask), static_cast<const T*>(grad_columns),
                                       static_cast<T*>(grad_input), static_cast<T*>(grad_offset),
                                       static_cast<T*>(grad_mask));
    });
  });
}
