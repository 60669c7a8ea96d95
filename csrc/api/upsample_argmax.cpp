#include "cpu/upsample_argmax.h"

#include "api/status.h"
#include "cuda/upsample_argmax.h"

size_t lps_upsample_argmax_workspace_size(const LpsUpsampleArgmaxParams*, LpsDevice) { return 0; }

LpsStatus lps_upsample_argmax(const LpsUpsampleArgmaxParams* params, const LpsContext* context, const float* logits,
                              const uint8_t* allowed, uint8_t* labels) {
  constexpr const char* op = "upsample_argmax";
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "params", params));
  if (params->num_classes < 1 || params->num_classes > 255)
    return lps::invalid(op, "num_classes", "1 to 255", params->num_classes);
  if (params->in_height < 1) return lps::invalid(op, "in_height", "at least 1", params->in_height);
  if (params->in_width < 1) return lps::invalid(op, "in_width", "at least 1", params->in_width);
  if (params->out_height < 0) return lps::invalid(op, "out_height", "at least 0", params->out_height);
  if (params->out_width < 0) return lps::invalid(op, "out_width", "at least 0", params->out_width);
  LPS_RETURN_IF_FAILED(lps::check_scale(op, params->scale_y, params->scale_x));
  LPS_RETURN_IF_FAILED(lps::check_device(op, context));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "logits", logits));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "labels", labels, params->out_height > 0 && params->out_width > 0));
  return lps::guarded(op, [&] {
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA) return lps::upsample_argmax_cuda(*params, *context, logits, allowed, labels);
    lps::upsample_argmax_cpu(*params, logits, allowed, labels);
  });
}
