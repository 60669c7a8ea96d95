#include "cpu/upsample_argmax.h"

#include "api/status.h"
#include "api/workspace.h"
#include "cpu/widen.h"
#include "cuda/upsample_argmax.h"

namespace {

constexpr const char* op = "upsample_argmax";

LpsStatus check_params(const LpsUpsampleArgmaxParams& p) {
  if (p.num_classes < 1 || p.num_classes > 255) return lps::invalid(op, "num_classes", "1 to 255", p.num_classes);
  if (p.in_height < 1) return lps::invalid(op, "in_height", "at least 1", p.in_height);
  if (p.in_width < 1) return lps::invalid(op, "in_width", "at least 1", p.in_width);
  if (p.out_height < 0) return lps::invalid(op, "out_height", "at least 0", p.out_height);
  if (p.out_width < 0) return lps::invalid(op, "out_width", "at least 0", p.out_width);
  LPS_RETURN_IF_FAILED(lps::check_dtype(op, "logits_dtype", p.logits_dtype));
  LPS_RETURN_IF_FAILED(lps::check_flag(op, "logits_channels_last", p.logits_channels_last));
  return lps::check_scale(op, p.scale_y, p.scale_x);
}

size_t workspace_size(const LpsUpsampleArgmaxParams& p, int32_t device) {
  return device == LPS_CUDA ? 0 : lps::workspace_of<float>(lps::widened_size(lps::format_of(p)));
}

}  // namespace

size_t lps_upsample_argmax_workspace_size(const LpsUpsampleArgmaxParams* params, LpsDevice device) {
  return params != nullptr && check_params(*params) == LPS_OK ? workspace_size(*params, device) : 0;
}

LpsStatus lps_upsample_argmax(const LpsUpsampleArgmaxParams* params, const LpsContext* context, const void* logits,
                              const uint8_t* allowed, uint8_t* labels) {
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "params", params));
  LPS_RETURN_IF_FAILED(check_params(*params));
  LPS_RETURN_IF_FAILED(lps::check_device(op, context));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "logits", logits));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "labels", labels, params->out_height > 0 && params->out_width > 0));
  LPS_RETURN_IF_FAILED(lps::check_workspace(op, context, workspace_size(*params, context->device)));
  return lps::guarded(op, [&] {
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA) return lps::upsample_argmax_cuda(*params, *context, logits, allowed, labels);
    lps::Carver carver(context->workspace);
    const lps::LogitsFormat format = lps::format_of(*params);
    const float* plain = lps::widen_logits_cpu(format, logits, carver.take<float>(lps::widened_size(format)));
    lps::upsample_argmax_cpu(*params, plain, allowed, labels);
  });
}
