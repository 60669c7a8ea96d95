#include "cpu/nms.h"

#include "api/status.h"

size_t lps_nms_workspace_size(const LpsNmsParams*, LpsDevice) { return 0; }

LpsStatus lps_nms(const LpsNmsParams* params, const LpsContext* context, const float* boxes, const float* scores,
                  const int32_t* labels, const int32_t* num_valid, int32_t* kept, int32_t* num_kept) {
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "params", params));
  if (params->num_boxes < 0) return lps::invalid("nms", "num_boxes", "at least 0", params->num_boxes);
  if (params->max_kept < 0) return lps::invalid("nms", "max_kept", "at least 0", params->max_kept);
  if (!(params->iou_threshold >= 0.f && params->iou_threshold <= 1.f))
    return lps::invalid("nms", "iou_threshold", "a number in [0, 1]", params->iou_threshold);
  LPS_RETURN_IF_FAILED(lps::check_device("nms", context));
  const bool any_boxes = params->num_boxes > 0;
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "boxes", boxes, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "scores", scores, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "labels", labels, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "kept", kept, params->max_kept > 0));
  LPS_RETURN_IF_FAILED(lps::check_pointer("nms", "num_kept", num_kept));
  return lps::guarded("nms", [&] {
    lps::nms_cpu(*params, reinterpret_cast<const lps::Box*>(boxes), scores, labels, num_valid, kept, num_kept);
  });
}
