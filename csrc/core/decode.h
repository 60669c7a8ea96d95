// From the dense outputs at one location to a scored box.
#pragma once
#include <math.h>

#include "core/bilinear.h"
#include "core/box.h"
#include "core/softmax.h"

namespace lps {

// Where a feature location lies in the input, along one axis: its centre.
LPS_HOST_DEVICE float point_of(int index, int stride) { return (index + 0.5f) * static_cast<float>(stride); }

// How far below the largest logit of its location a class may lie and still get a probability above the threshold:
// its probability is at most exp(logit - largest). The margin of 1e-3 is far wider than the error of the exponential.
// `log_threshold` is the logarithm of the threshold, -inf for 0.
LPS_HOST_DEVICE float lowest_logit(float largest, float log_threshold) { return largest + (log_threshold - 1e-3f); }

// The probability of a class: `sum` is that of exp_of_nonpositive(logit - largest) over all classes in their order.
LPS_HOST_DEVICE float probability_of(float logit, float largest, float sum) {
  return exp_of_nonpositive(logit - largest) / sum;
}

LPS_HOST_DEVICE float fused_score(float probability, float borderness, bool square_root) {
  const float product = probability * borderness;
  return square_root ? sqrtf(product) : product;
}

LPS_HOST_DEVICE float clip(float value, float highest) { return value < 0.f ? 0.f : value > highest ? highest : value; }

// The box whose left, top, right and bottom side are at these distances from a point, clipped to the image.
LPS_HOST_DEVICE Box box_around(float x, float y, const Box& ltrb, float image_width, float image_height) {
  return {clip(x - ltrb.x1, image_width), clip(y - ltrb.y1, image_height),  //
          clip(x + ltrb.x2, image_width), clip(y + ltrb.y2, image_height)};
}

}  // namespace lps
