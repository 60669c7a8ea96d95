// Which boxes are pasted, and onto which pixels.
#pragma once
#include <stdint.h>

#include "core/box.h"
#include "core/host_device.h"
#include "core/pixel.h"

namespace lps {

// Rows y0 .. y1 - 1 and columns x0 .. x1 - 1.
struct PixelRange {
  int x0, y0, x1, y1;
};

// The pixels whose centre lies in [x1, x2) x [y1, y2). Of a box without NaN.
LPS_HOST_DEVICE PixelRange pixels_of(const Box& box, float scale_y, float scale_x, int height, int width) {
  return {pixels_below(box.x1, scale_x, width), pixels_below(box.y1, scale_y, height),
          pixels_below(box.x2, scale_x, width), pixels_below(box.y2, scale_y, height)};
}

LPS_HOST_DEVICE bool empty(const PixelRange& r) { return r.x0 >= r.x1 || r.y0 >= r.y1; }

LPS_HOST_DEVICE bool meet(const PixelRange& a, const PixelRange& b) {
  return a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;
}

// Whether a box takes part: a score of at least paste_score (so not NaN), a thing class, no NaN coordinate.
LPS_HOST_DEVICE bool takes_part(const Box& b, float score, int32_t label, float paste_score, const uint8_t* is_thing,
                                int num_classes) {
  const bool numbers = b.x1 == b.x1 && b.y1 == b.y1 && b.x2 == b.x2 && b.y2 == b.y2;
  return score >= paste_score && numbers && label >= 0 && label < num_classes && is_thing[label];
}

// A box is kept when it has a mask and no more than this share of it is occupied by kept boxes of its class.
LPS_HOST_DEVICE bool keeps(int32_t mask_pixels, int32_t occupied_pixels, float overlap_threshold) {
  return mask_pixels > 0 &&
         !(static_cast<float>(occupied_pixels) > overlap_threshold * static_cast<float>(mask_pixels));
}

}  // namespace lps
