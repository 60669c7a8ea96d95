// The first step of the panoptic head: which boxes are kept.
#pragma once
#include <vector>

#include "core/paste.h"
#include "cpu/paste_boxes.h"

namespace lps {

struct PasteBox {
  Box box;
  PixelRange pixels;
  int32_t index;  // among the boxes given
  int32_t label, level;
};

// The kept boxes in the order given.
std::vector<PasteBox> kept_boxes(const LpsPasteBoxesParams& params, const PasteInputs& in);

}  // namespace lps
