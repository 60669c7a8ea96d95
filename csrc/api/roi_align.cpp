#include "cpu/roi_align.h"

#include <algorithm>
#include <cmath>

#include "api/status.h"
#include "cuda/roi_align.h"

namespace {

constexpr const char* kOp = "roi_align";

LpsStatus check(const LpsRoiAlignParams& p) {
  if (p.num_boxes < 0) return lps::invalid(kOp, "num_boxes", "at least 0", p.num_boxes);
  if (p.channels < 1) return lps::invalid(kOp, "channels", "at least 1", p.channels);
  LPS_RETURN_IF_FAILED(lps::check_levels(kOp, p.levels));
  if (p.out_height < 1) return lps::invalid(kOp, "out_height", "at least 1", p.out_height);
  if (p.out_width < 1) return lps::invalid(kOp, "out_width", "at least 1", p.out_width);
  if (p.sampling_ratio < 0) return lps::invalid(kOp, "sampling_ratio", "at least 0", p.sampling_ratio);
  if (p.canonical_level < 0 || p.canonical_level >= LPS_MAX_LEVELS)
    return lps::invalid(kOp, "canonical_level", "0 to 7", p.canonical_level);
  if (!(p.canonical_size > 0.f && std::isfinite(p.canonical_size)))
    return lps::invalid(kOp, "canonical_size", "a finite number above 0", p.canonical_size);
  return LPS_OK;
}

}  // namespace

size_t lps_roi_align_workspace_size(const LpsRoiAlignParams*, LpsDevice) { return 0; }

LpsStatus lps_roi_align(const LpsRoiAlignParams* params, const LpsContext* context, const float* const* features,
                        const float* boxes, const int32_t* box_levels, const int32_t* num_valid, float* out) {
  LPS_RETURN_IF_FAILED(lps::check_pointer(kOp, "params", params));
  LPS_RETURN_IF_FAILED(check(*params));
  LPS_RETURN_IF_FAILED(lps::check_device(kOp, context));
  LPS_RETURN_IF_FAILED(lps::check_pointer(kOp, "features", features));
  for (int i = 0; i < params->levels.num_levels; ++i)
    LPS_RETURN_IF_FAILED(lps::check_pointer(kOp, "features", features[i]));
  LPS_RETURN_IF_FAILED(lps::check_pointer(kOp, "boxes", boxes, params->num_boxes > 0));
  LPS_RETURN_IF_FAILED(lps::check_pointer(kOp, "out", out, params->num_boxes > 0));
  return lps::guarded(kOp, [&] {
    lps::RoiPyramid pyramid{*params, {}, reinterpret_cast<const lps::Box*>(boxes), box_levels, num_valid};
    std::copy_n(features, params->levels.num_levels, pyramid.features);
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA) return lps::roi_align_cuda(pyramid, *context, out);
    lps::roi_align_cpu(pyramid, out);
  });
}
