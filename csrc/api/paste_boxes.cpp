#include "cpu/paste_boxes.h"

#include <limits>

#include "api/status.h"
#include "cuda/paste_boxes.h"

namespace {

constexpr const char* op = "paste_boxes";

LpsStatus check(const LpsPasteBoxesParams& p) {
  if (p.num_boxes < 0) return lps::invalid(op, "num_boxes", "at least 0", p.num_boxes);
  if (p.num_classes < 1 || p.num_classes > 255) return lps::invalid(op, "num_classes", "1 to 255", p.num_classes);
  if (p.height < 0) return lps::invalid(op, "height", "at least 0", p.height);
  if (p.width < 0) return lps::invalid(op, "width", "at least 0", p.width);
  const int64_t pixels = int64_t{p.height} * p.width;
  if (pixels > std::numeric_limits<int32_t>::max())
    return lps::invalid(op, "height * width", "less than 2^31 pixels", pixels);
  LPS_RETURN_IF_FAILED(lps::check_scale(op, p.scale_y, p.scale_x));
  if (!(p.paste_score == p.paste_score)) return lps::invalid(op, "paste_score", "a number", p.paste_score);
  if (!(p.overlap_threshold >= 0.f && p.overlap_threshold <= 1.f))
    return lps::invalid(op, "overlap_threshold", "a number in [0, 1]", p.overlap_threshold);
  if (p.assignment < LPS_CLOSEST_BORDERNESS || p.assignment > LPS_SMALLEST_AREA)
    return lps::invalid(op, "assignment", "an LpsAssignment", p.assignment);
  if (p.stuff_area_limit < 0) return lps::invalid(op, "stuff_area_limit", "at least 0", p.stuff_area_limit);
  return p.assignment == LPS_CLOSEST_BORDERNESS ? lps::check_levels(op, p.levels) : LPS_OK;
}

size_t workspace_size(const LpsPasteBoxesParams& p, int32_t device) {
  if constexpr (lps::kHasCuda)
    if (device == LPS_CUDA) return lps::paste_boxes_cuda_workspace(p);
  return 0;
}

}  // namespace

size_t lps_paste_boxes_workspace_size(const LpsPasteBoxesParams* params, LpsDevice device) {
  return params != nullptr && check(*params) == LPS_OK ? workspace_size(*params, device) : 0;
}

LpsStatus lps_paste_boxes(const LpsPasteBoxesParams* params, const LpsContext* context, const uint8_t* labels,
                          const uint8_t* is_thing, const float* boxes, const float* scores, const int32_t* box_labels,
                          const int32_t* box_levels, const int32_t* num_valid, const float* const* borderness,
                          const uint8_t* stuff_labels, int32_t* ids, int32_t* segment_labels, float* segment_scores,
                          int32_t* segment_areas, int32_t* segment_boxes, int32_t* num_segments) {
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "params", params));
  LPS_RETURN_IF_FAILED(check(*params));
  LPS_RETURN_IF_FAILED(lps::check_device(op, context));
  const bool any_pixels = params->height > 0 && params->width > 0, any_boxes = params->num_boxes > 0;
  const bool reads_borderness = any_boxes && params->assignment == LPS_CLOSEST_BORDERNESS;
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "labels", labels, any_pixels));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "is_thing", is_thing));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "boxes", boxes, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "scores", scores, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "box_labels", box_labels, any_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "box_levels", box_levels, reads_borderness));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "borderness", borderness, reads_borderness));
  for (int level = 0; reads_borderness && level < params->levels.num_levels; ++level)
    LPS_RETURN_IF_FAILED(lps::check_pointer(op, "borderness", borderness[level]));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "ids", ids, any_pixels));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "segment_labels", segment_labels));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "segment_scores", segment_scores));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "segment_areas", segment_areas));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "segment_boxes", segment_boxes));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "num_segments", num_segments));
  LPS_RETURN_IF_FAILED(lps::check_workspace(op, context, workspace_size(*params, context->device)));
  const lps::PasteInputs in{labels,    is_thing,   reinterpret_cast<const lps::Box*>(boxes),
                            scores,    box_labels, box_levels,
                            num_valid, borderness, stuff_labels};
  const lps::PasteOutputs out{ids, segment_labels, segment_scores, segment_areas, segment_boxes, num_segments};
  return lps::guarded(op, [&] {
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA) return lps::paste_boxes_cuda(*params, *context, in, out);
    lps::paste_boxes_cpu(*params, in, out);
  });
}
