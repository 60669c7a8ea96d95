// The chain of the post-processing. Each operator checks its own arguments; here are the chain's and the workspace.
#include "core/postprocess.h"

#include <algorithm>
#include <limits>

#include "api/status.h"
#include "api/workspace.h"
#include "cpu/gather_detections.h"
#include "cpu/widen.h"
#include "cuda/gather_detections.h"

namespace {

constexpr const char* op = "postprocess";

// Of the logits that the operators get: on the CPU they are widened once, for all of them.
LpsPostprocessParams inner_params(LpsPostprocessParams p, LpsDevice device) {
  if (device == LPS_CPU) p.logits_dtype = LPS_FLOAT32, p.logits_channels_last = 0;
  return p;
}

size_t size_of_inner(const LpsPostprocessParams& p, LpsDevice device) {
  const LpsDecodeParams decode = lps::decode_params(p);
  const LpsNmsParams nms = lps::nms_params(p);
  const LpsUpsampleArgmaxParams argmax = lps::argmax_params(p);
  const LpsPasteBoxesParams paste = lps::paste_params(p);
  return std::max({lps_decode_workspace_size(&decode, device), lps_nms_workspace_size(&nms, device),
                   lps_upsample_argmax_workspace_size(&argmax, device),
                   lps_paste_boxes_workspace_size(&paste, device)});
}

struct Workspace {
  // From decode, num_levels * topk of each.
  float *candidate_boxes, *candidate_scores;
  int32_t *candidate_labels, *candidate_levels, *num_candidates;
  // From nms, max_detections of each.
  int32_t *kept, *levels;
  // From upsample_argmax, out_height * out_width.
  uint8_t *labels, *stuff_labels;
  uint8_t* is_stuff;  // [num_classes]
  float* widened;     // the logits on the CPU, where they are not read as they are
  char* inner;        // that of the operators, which take turns
  size_t inner_size, size;

  Workspace(const LpsPostprocessParams& p, LpsDevice device, void* base) {
    lps::Carver carver(base);
    const size_t candidates = static_cast<size_t>(p.levels.num_levels) * p.topk;
    const size_t pixels = static_cast<size_t>(p.out_height) * p.out_width;
    candidate_boxes = carver.take<float>(candidates * 4);
    candidate_scores = carver.take<float>(candidates);
    candidate_labels = carver.take<int32_t>(candidates);
    candidate_levels = carver.take<int32_t>(candidates);
    num_candidates = carver.take<int32_t>(1);
    kept = carver.take<int32_t>(p.max_detections);
    levels = carver.take<int32_t>(p.max_detections);
    labels = carver.take<uint8_t>(pixels);
    stuff_labels = carver.take<uint8_t>(p.fill_stuff ? pixels : 0);
    is_stuff = carver.take<uint8_t>(p.fill_stuff ? p.num_classes : 0);
    widened = carver.take<float>(device == LPS_CPU ? lps::widened_size(lps::format_of(p)) : 0);
    inner_size = size_of_inner(inner_params(p, device), device);
    inner = carver.take<char>(inner_size);
    size = carver.size();
  }
};

// What the sizes of the workspace are made of; the rest is for the operators to judge.
LpsStatus check(const LpsPostprocessParams& p) {
  LPS_RETURN_IF_FAILED(lps::check_levels(op, p.levels));
  if (p.num_classes < 1 || p.num_classes > 255) return lps::invalid(op, "num_classes", "1 to 255", p.num_classes);
  if (p.logits_stride < 1) return lps::invalid(op, "logits_stride", "at least 1", p.logits_stride);
  if (p.topk < 0 || p.topk > std::numeric_limits<int32_t>::max() / LPS_MAX_LEVELS)
    return lps::invalid(op, "topk", "0 to 2^28 - 1", p.topk);
  if (p.max_detections < 0) return lps::invalid(op, "max_detections", "at least 0", p.max_detections);
  if (p.out_height < 1) return lps::invalid(op, "out_height", "at least 1", p.out_height);
  if (p.out_width < 1) return lps::invalid(op, "out_width", "at least 1", p.out_width);
  LPS_RETURN_IF_FAILED(lps::check_dtype(op, "logits_dtype", p.logits_dtype));
  return lps::check_flag(op, "logits_channels_last", p.logits_channels_last);
}

LpsStatus gather(const LpsContext* context, const lps::Candidates& candidates, const Workspace& w,
                 const int32_t* num_detections, int32_t max_detections, lps::Box* boxes, float* scores,
                 int32_t* box_labels) {
  return lps::guarded(op, [&] {
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA)
        return lps::gather_detections_cuda(context->stream, candidates, w.kept, num_detections, max_detections, boxes,
                                           scores, box_labels, w.levels);
    lps::gather_detections_cpu(candidates, w.kept, *num_detections, max_detections, boxes, scores, box_labels,
                               w.levels);
  });
}

LpsStatus find_stuff(const LpsContext* context, const uint8_t* is_thing, int32_t num_classes, uint8_t* is_stuff) {
  return lps::guarded(op, [&] {
    if constexpr (lps::kHasCuda)
      if (context->device == LPS_CUDA) return lps::invert_flags_cuda(context->stream, is_thing, num_classes, is_stuff);
    for (int32_t c = 0; c < num_classes; ++c) is_stuff[c] = !is_thing[c];
  });
}

}  // namespace

size_t lps_postprocess_workspace_size(const LpsPostprocessParams* params, LpsDevice device) {
  return params != nullptr && check(*params) == LPS_OK ? Workspace(*params, device, nullptr).size : 0;
}

LpsStatus lps_postprocess(const LpsPostprocessParams* params, const LpsContext* context, const void* logits,
                          const uint8_t* is_thing, const float* const* ltrb, const float* const* borderness,
                          float* boxes, float* scores, int32_t* box_labels, int32_t* num_detections, int32_t* ids,
                          int32_t* segment_labels, float* segment_scores, int32_t* segment_areas,
                          int32_t* segment_boxes, int32_t* num_segments) {
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "params", params));
  LPS_RETURN_IF_FAILED(check(*params));
  LPS_RETURN_IF_FAILED(lps::check_device(op, context));
  const auto device = static_cast<LpsDevice>(context->device);
  const Workspace w(*params, device, context->workspace);
  LPS_RETURN_IF_FAILED(lps::check_workspace(op, context, w.size));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "logits", logits));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "is_thing", is_thing));
  const LpsPostprocessParams p = inner_params(*params, device);
  const bool any_detections = p.max_detections > 0;
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "boxes", boxes, any_detections));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "scores", scores, any_detections));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "box_labels", box_labels, any_detections));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "num_detections", num_detections));
  if (device == LPS_CPU) logits = lps::widen_logits_cpu(lps::format_of(*params), logits, w.widened);
  const LpsContext inner{context->device, context->stream, w.inner, w.inner_size};

  const LpsDecodeParams decode = lps::decode_params(p);
  LPS_RETURN_IF_FAILED(lps_decode(&decode, &inner, logits, is_thing, ltrb, borderness, w.candidate_boxes,
                                  w.candidate_scores, w.candidate_labels, w.candidate_levels, w.num_candidates));
  const LpsNmsParams nms = lps::nms_params(p);
  LPS_RETURN_IF_FAILED(lps_nms(&nms, &inner, w.candidate_boxes, w.candidate_scores, w.candidate_labels,
                               w.num_candidates, w.kept, num_detections));
  const lps::Candidates candidates{reinterpret_cast<const lps::Box*>(w.candidate_boxes), w.candidate_scores,
                                   w.candidate_labels, w.candidate_levels};
  LPS_RETURN_IF_FAILED(gather(context, candidates, w, num_detections, p.max_detections,
                              reinterpret_cast<lps::Box*>(boxes), scores, box_labels));
  const LpsUpsampleArgmaxParams argmax = lps::argmax_params(p);
  LPS_RETURN_IF_FAILED(lps_upsample_argmax(&argmax, &inner, logits, nullptr, w.labels));
  if (p.fill_stuff) {
    LPS_RETURN_IF_FAILED(find_stuff(context, is_thing, p.num_classes, w.is_stuff));
    LPS_RETURN_IF_FAILED(lps_upsample_argmax(&argmax, &inner, logits, w.is_stuff, w.stuff_labels));
  }
  const LpsPasteBoxesParams paste = lps::paste_params(p);
  return lps_paste_boxes(&paste, &inner, w.labels, is_thing, boxes, scores, box_labels, w.levels, num_detections,
                         borderness, p.fill_stuff ? w.stuff_labels : nullptr, ids, segment_labels, segment_scores,
                         segment_areas, segment_boxes, num_segments);
}
