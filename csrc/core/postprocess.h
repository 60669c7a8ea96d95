// What the operators of the chain get from the chain's own parameters.
#pragma once
#include "core/host_device.h"
#include "lpsnet.h"

namespace lps {

// Input pixels per output pixel, rounded once.
LPS_HOST_DEVICE float output_scale(int image_size, int out_size, int divisor = 1) {
  return static_cast<float>(static_cast<double>(image_size) / out_size / divisor);
}

LPS_HOST_DEVICE LpsDecodeParams decode_params(const LpsPostprocessParams& p) {
  return {p.num_classes, p.logits_height,   p.logits_width, p.logits_stride, p.levels,       p.image_height,
          p.image_width, p.score_threshold, p.topk,         p.score_fusion,  p.logits_dtype, p.logits_channels_last};
}

LPS_HOST_DEVICE LpsNmsParams nms_params(const LpsPostprocessParams& p) {
  return {p.levels.num_levels * p.topk, p.max_detections, p.iou_threshold};
}

LPS_HOST_DEVICE LpsUpsampleArgmaxParams argmax_params(const LpsPostprocessParams& p) {
  return {p.num_classes,
          p.logits_height,
          p.logits_width,
          p.out_height,
          p.out_width,
          output_scale(p.image_height, p.out_height, p.logits_stride),
          output_scale(p.image_width, p.out_width, p.logits_stride),
          p.logits_dtype,
          p.logits_channels_last};
}

LPS_HOST_DEVICE LpsPasteBoxesParams paste_params(const LpsPostprocessParams& p) {
  return {p.max_detections,
          p.num_classes,
          p.out_height,
          p.out_width,
          output_scale(p.image_height, p.out_height),
          output_scale(p.image_width, p.out_width),
          p.levels,
          p.paste_score,
          p.overlap_threshold,
          p.assignment,
          p.stuff_area_limit};
}

}  // namespace lps
