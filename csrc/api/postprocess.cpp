// The chain of the operators, each through its own API function, so that each checks what it is given.
#include "cpu/postprocess.h"

#include <algorithm>
#include <limits>

#include "api/status.h"

namespace {

constexpr const char* op = "postprocess";

LpsDecodeParams decode_params(const LpsPostprocessParams& p) {
  return {p.num_classes,  p.logits_height, p.logits_width,    p.logits_stride, p.levels,
          p.image_height, p.image_width,   p.score_threshold, p.topk,          p.score_fusion};
}

LpsNmsParams nms_params(const LpsPostprocessParams& p) {
  return {p.levels.num_levels * p.topk, p.max_detections, p.iou_threshold};
}

// Pixels of the network's input per pixel of the panoptic map.
float scale_y(const LpsPostprocessParams& p) {
  return static_cast<float>(p.image_height) / static_cast<float>(p.out_height);
}
float scale_x(const LpsPostprocessParams& p) {
  return static_cast<float>(p.image_width) / static_cast<float>(p.out_width);
}

LpsUpsampleArgmaxParams upsample_argmax_params(const LpsPostprocessParams& p) {
  const float stride = static_cast<float>(p.logits_stride);
  return {p.num_classes, p.logits_height,     p.logits_width,     p.out_height,
          p.out_width,   scale_y(p) / stride, scale_x(p) / stride};
}

LpsPasteBoxesParams paste_boxes_params(const LpsPostprocessParams& p) {
  return {p.max_detections, p.num_classes, p.out_height,        p.out_width,  scale_y(p),        scale_x(p),
          p.levels,         p.paste_score, p.overlap_threshold, p.assignment, p.stuff_area_limit};
}

// Where each intermediate array lies in the workspace, in bytes. Everything is aligned to 64.
struct Layout {
  size_t size = 0;
  size_t boxes, scores, labels, levels;  // [num_levels * topk], from decode
  size_t num_boxes;                      // [1]
  size_t kept, num_kept;                 // [max_detections], [1], from nms
  size_t kept_levels;                    // [max_detections]
  size_t label_map;                      // [out_height, out_width] uint8
  size_t is_stuff, stuff_map;            // [num_classes], [out_height, out_width] uint8, where fill_stuff asks for them
  size_t inner, inner_size;              // the workspace of the operators, one after the other

  Layout(const LpsPostprocessParams& p, LpsDevice device) {
    const LpsDecodeParams decode = decode_params(p);
    const LpsNmsParams nms = nms_params(p);
    const LpsUpsampleArgmaxParams upsample = upsample_argmax_params(p);
    const LpsPasteBoxesParams paste = paste_boxes_params(p);
    const size_t decoded = nms.num_boxes, detections = p.max_detections;
    const size_t pixels = static_cast<size_t>(p.out_height) * p.out_width;
    boxes = take(decoded * sizeof(lps::Box));
    scores = take(decoded * sizeof(float));
    labels = take(decoded * sizeof(int32_t));
    levels = take(decoded * sizeof(int32_t));
    num_boxes = take(sizeof(int32_t));
    kept = take(detections * sizeof(int32_t));
    num_kept = take(sizeof(int32_t));
    kept_levels = take(detections * sizeof(int32_t));
    label_map = take(pixels);
    is_stuff = take(p.fill_stuff ? p.num_classes : 0);
    stuff_map = take(p.fill_stuff ? pixels : 0);
    inner_size = std::max({lps_decode_workspace_size(&decode, device), lps_nms_workspace_size(&nms, device),
                           lps_upsample_argmax_workspace_size(&upsample, device),
                           lps_paste_boxes_workspace_size(&paste, device)});
    inner = take(inner_size);
  }

 private:
  size_t take(size_t bytes) {
    const size_t offset = size;
    size += (bytes + 63) / 64 * 64;
    return offset;
  }
};

// What the layout and the scales rest on; the operators check the rest.
LpsStatus check(const LpsPostprocessParams& p) {
  if (p.num_classes < 1 || p.num_classes > 255) return lps::invalid(op, "num_classes", "1 to 255", p.num_classes);
  if (p.logits_stride < 1) return lps::invalid(op, "logits_stride", "at least 1", p.logits_stride);
  LPS_RETURN_IF_FAILED(lps::check_levels(op, p.levels));
  if (p.image_height < 1) return lps::invalid(op, "image_height", "at least 1", p.image_height);
  if (p.image_width < 1) return lps::invalid(op, "image_width", "at least 1", p.image_width);
  if (p.out_height < 1) return lps::invalid(op, "out_height", "at least 1", p.out_height);
  if (p.out_width < 1) return lps::invalid(op, "out_width", "at least 1", p.out_width);
  const int64_t pixels = int64_t{p.out_height} * p.out_width;
  if (pixels > std::numeric_limits<int32_t>::max())
    return lps::invalid(op, "out_height * out_width", "less than 2^31 pixels", pixels);
  const int32_t most = std::numeric_limits<int32_t>::max() / LPS_MAX_LEVELS;
  if (p.topk < 0 || p.topk > most) return lps::invalid(op, "topk", "0 to 2^28 - 1", p.topk);
  if (p.max_detections < 0) return lps::invalid(op, "max_detections", "at least 0", p.max_detections);
  return LPS_OK;
}

}  // namespace

size_t lps_postprocess_workspace_size(const LpsPostprocessParams* params, LpsDevice device) {
  return params != nullptr && check(*params) == LPS_OK ? Layout(*params, device).size : 0;
}

LpsStatus lps_postprocess(const LpsPostprocessParams* params, const LpsContext* context, const float* logits,
                          const uint8_t* is_thing, const float* const* ltrb, const float* const* borderness,
                          float* boxes, float* scores, int32_t* box_labels, int32_t* num_detections, int32_t* ids,
                          int32_t* segment_labels, float* segment_scores, int32_t* segment_areas,
                          int32_t* segment_boxes, int32_t* num_segments) {
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "params", params));
  LPS_RETURN_IF_FAILED(check(*params));
  LPS_RETURN_IF_FAILED(lps::check_device(op, context));
  const bool any_detections = params->max_detections > 0;
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "boxes", boxes, any_detections));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "scores", scores, any_detections));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "box_labels", box_labels, any_detections));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "num_detections", num_detections));
  LPS_RETURN_IF_FAILED(lps::check_pointer(op, "ids", ids));
  const Layout layout(*params, static_cast<LpsDevice>(context->device));
  LPS_RETURN_IF_FAILED(lps::check_workspace(op, context, layout.size));

  const auto at = [&](size_t offset) { return static_cast<char*>(context->workspace) + offset; };
  const auto ints = [&](size_t offset) { return reinterpret_cast<int32_t*>(at(offset)); };
  const auto floats = [&](size_t offset) { return reinterpret_cast<float*>(at(offset)); };
  const auto bytes = [&](size_t offset) { return reinterpret_cast<uint8_t*>(at(offset)); };
  LpsContext inner = *context;
  inner.workspace = at(layout.inner);
  inner.workspace_size = layout.inner_size;

  const LpsDecodeParams decode = decode_params(*params);
  LPS_RETURN_IF_FAILED(lps_decode(&decode, &inner, logits, is_thing, ltrb, borderness, floats(layout.boxes),
                                  floats(layout.scores), ints(layout.labels), ints(layout.levels),
                                  ints(layout.num_boxes)));

  const LpsNmsParams nms = nms_params(*params);
  LPS_RETURN_IF_FAILED(lps_nms(&nms, &inner, floats(layout.boxes), floats(layout.scores), ints(layout.labels),
                               ints(layout.num_boxes), ints(layout.kept), ints(layout.num_kept)));
  *num_detections = *ints(layout.num_kept);
  lps::gather_boxes_cpu({reinterpret_cast<const lps::Box*>(at(layout.boxes)), floats(layout.scores),
                         ints(layout.labels), ints(layout.levels)},
                        ints(layout.kept), *num_detections, params->max_detections,
                        {reinterpret_cast<lps::Box*>(boxes), scores, box_labels, ints(layout.kept_levels)});

  const LpsUpsampleArgmaxParams upsample = upsample_argmax_params(*params);
  LPS_RETURN_IF_FAILED(lps_upsample_argmax(&upsample, &inner, logits, nullptr, bytes(layout.label_map)));
  uint8_t* stuff_map = nullptr;
  if (params->fill_stuff) {
    stuff_map = bytes(layout.stuff_map);
    lps::stuff_classes_cpu(is_thing, params->num_classes, bytes(layout.is_stuff));
    LPS_RETURN_IF_FAILED(lps_upsample_argmax(&upsample, &inner, logits, bytes(layout.is_stuff), stuff_map));
  }

  const LpsPasteBoxesParams paste = paste_boxes_params(*params);
  return lps_paste_boxes(&paste, &inner, bytes(layout.label_map), is_thing, boxes, scores, box_labels,
                         ints(layout.kept_levels), num_detections, borderness, stuff_map, ids, segment_labels,
                         segment_scores, segment_areas, segment_boxes, num_segments);
}
