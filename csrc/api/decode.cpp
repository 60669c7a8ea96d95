#include "cpu/decode.h"

#include <limits>

#include "api/status.h"
#include "api/workspace.h"
#include "cpu/widen.h"
#include "cuda/decode.h"

namespace {

LpsStatus check_params(const LpsDecodeParams& p) {
  const auto invalid = [](const char* name, const char* expected, auto got) {
    return lps::invalid("decode", name, expected, got);
  };
  if (p.num_classes < 1 || p.num_classes > 255) return invalid("num_classes", "1 to 255", p.num_classes);
  if (p.logits_height < 1) return invalid("logits_height", "at least 1", p.logits_height);
  if (p.logits_width < 1) return invalid("logits_width", "at least 1", p.logits_width);
  if (p.logits_stride < 1) return invalid("logits_stride", "at least 1", p.logits_stride);
  LPS_RETURN_IF_FAILED(lps::check_levels("decode", p.levels));
  for (int i = 0; i < p.levels.num_levels; ++i) {
    // Pairs of location and class are numbered in 32 bits.
    const double pairs = static_cast<double>(p.levels.height[i]) * p.levels.width[i] * p.num_classes;
    if (pairs > std::numeric_limits<int32_t>::max())
      return invalid("levels", "fewer than 2^31 pairs of location and class on each level", pairs);
  }
  if (p.image_height < 1) return invalid("image_height", "at least 1", p.image_height);
  if (p.image_width < 1) return invalid("image_width", "at least 1", p.image_width);
  if (!(p.score_threshold >= 0.f && p.score_threshold <= 1.f))
    return invalid("score_threshold", "a number in [0, 1]", p.score_threshold);
  const int most = std::numeric_limits<int32_t>::max() / LPS_MAX_LEVELS;
  if (p.topk < 0 || p.topk > most) return invalid("topk", "0 to 2^28 - 1", p.topk);
  if (p.score_fusion != LPS_SCORE_PRODUCT && p.score_fusion != LPS_SCORE_SQRT)
    return invalid("score_fusion", "LPS_SCORE_PRODUCT (0) or LPS_SCORE_SQRT (1)", p.score_fusion);
  LPS_RETURN_IF_FAILED(lps::check_dtype("decode", "logits_dtype", p.logits_dtype));
  return lps::check_flag("decode", "logits_channels_last", p.logits_channels_last);
}

size_t workspace_size(const LpsDecodeParams& p, int32_t device) {
  if constexpr (lps::kHasCuda)
    if (device == LPS_CUDA) return lps::decode_cuda_workspace(p);
  return lps::workspace_of<float>(lps::widened_size(lps::format_of(p)));
}

}  // namespace

size_t lps_decode_workspace_size(const LpsDecodeParams* params, LpsDevice device) {
  return params != nullptr && check_params(*params) == LPS_OK ? workspace_size(*params, device) : 0;
}

LpsStatus lps_decode(const LpsDecodeParams* params, const LpsContext* context, const void* logits,
                     const uint8_t* is_thing, const float* const* ltrb, const float* const* borderness, float* boxes,
                     float* scores, int32_t* labels, int32_t* box_levels, int32_t* num_boxes) {
  const auto check = [](const char* name, const void* pointer, bool needed = true) {
    return lps::check_pointer("decode", name, pointer, needed);
  };
  LPS_RETURN_IF_FAILED(check("params", params));
  LPS_RETURN_IF_FAILED(check_params(*params));
  LPS_RETURN_IF_FAILED(lps::check_device("decode", context));
  LPS_RETURN_IF_FAILED(check("logits", logits));
  LPS_RETURN_IF_FAILED(check("is_thing", is_thing));
  LPS_RETURN_IF_FAILED(check("ltrb", ltrb));
  LPS_RETURN_IF_FAILED(check("borderness", borderness));
  for (int i = 0; i < params->levels.num_levels; ++i) {
    LPS_RETURN_IF_FAILED(check("ltrb of a level", ltrb[i]));
    LPS_RETURN_IF_FAILED(check("borderness of a level", borderness[i]));
  }
  const bool any_rows = params->topk > 0;
  LPS_RETURN_IF_FAILED(check("boxes", boxes, any_rows));
  LPS_RETURN_IF_FAILED(check("scores", scores, any_rows));
  LPS_RETURN_IF_FAILED(check("labels", labels, any_rows));
  LPS_RETURN_IF_FAILED(check("box_levels", box_levels, any_rows));
  LPS_RETURN_IF_FAILED(check("num_boxes", num_boxes));
  LPS_RETURN_IF_FAILED(lps::check_workspace("decode", context, workspace_size(*params, context->device)));
  return lps::guarded("decode", [&] {
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA)
        return lps::decode_cuda(*params, *context, logits, is_thing, ltrb, borderness, boxes, scores, labels,
                                box_levels, num_boxes);
    lps::Carver carver(context->workspace);
    const lps::LogitsFormat format = lps::format_of(*params);
    const float* plain = lps::widen_logits_cpu(format, logits, carver.take<float>(lps::widened_size(format)));
    lps::decode_cpu(*params, plain, is_thing, ltrb, borderness, boxes, scores, labels, box_levels, num_boxes);
  });
}
