#include "cpu/nms.h"

#include "api/status.h"
#include "cuda/nms.h"

namespace {

LpsStatus check(const LpsNmsParams& p) {
  if (p.num_boxes < 0) return lps::invalid("nms", "num_boxes", "at least 0", p.num_boxes);
  if (p.max_kept < 0) return lps::invalid("nms", "max_kept", "at least 0", p.max_kept);
  if (!(p.iou_threshold >= 0.f && p.iou_threshold <= 1.f))
    return lps::invalid("nms", "iou_threshold", "a number in [0, 1]", p.iou_threshold);
  return LPS_OK;
}

size_t workspace_size(const LpsNmsParams& p, int32_t device) {
  if constexpr (lps::kHasCuda)
    if (device == LPS_CUDA) return lps::guarded_size("nms", [&] { return lps::nms_cuda_workspace(p); });
  return 0;
}

}  // namespace

size_t lps_nms_workspace_size(const LpsNmsParams* params, LpsDevice device) {
  return params != nullptr && check(*params) == LPS_OK ? workspace_size(*params, device) : 0;
}

LpsStatus lps_nms(const LpsNmsParams* params, const LpsContext* context, const float* boxes, const float* scores,
                  const int32_t* labels, const int32_t* num_valid, int32_t* kept, int32_t* num_kept) {
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "params", params));
  LPS_RETURN_IF_FAILED(check(*params));
  LPS_RETURN_IF_FAILED(lps::check_device("nms", context));
  const bool any_boxes = params->num_boxes > 0;
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "boxes", boxes, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "scores", scores, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "labels", labels, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "kept", kept, params->max_kept > 0));
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "num_kept", num_kept));
  LPS_RETURN_IF_FAILED(lps::check_workspace("nms", context, workspace_size(*params, context->device)));
  return lps::guarded("nms", [&] {
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA)
        return lps::nms_cuda(*params, *context, reinterpret_cast<const lps::Box*>(boxes), scores, labels, num_valid,
                             kept, num_kept);
    lps::nms_cpu(*params, reinterpret_cast<const lps::Box*>(boxes), scores, labels, num_valid, kept, num_kept);
  });
}
