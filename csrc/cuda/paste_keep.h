// Which boxes of the panoptic head are kept, on the device.
#pragma once
#include <cuda_runtime.h>

#include "api/workspace.h"
#include "core/paste.h"
#include "cpu/paste_boxes.h"

namespace lps {

struct KeepWorkspace {
  PixelRange* pixels;    // [num_boxes]; empty for a box that takes no part
  uint8_t* keep;         // [num_boxes]
  int32_t* mask_pixels;  // [num_boxes]
  uint8_t* meets;        // [num_boxes] which others of their class they meet, as kMeets...
  uint32_t* planes;      // [class][row][word]: a bit for each pixel of the class that no kept box occupies

  KeepWorkspace(const LpsPasteBoxesParams& p, Carver& carver)
      : pixels(carver.take<PixelRange>(p.num_boxes)),
        keep(carver.take<uint8_t>(p.num_boxes)),
        mask_pixels(carver.take<int32_t>(p.num_boxes)),
        meets(carver.take<uint8_t>(p.num_boxes)),
        planes(carver.take<uint32_t>(p.num_boxes > 0 ? static_cast<size_t>(p.num_classes) * p.height *
                                                           ((static_cast<size_t>(p.width) + 31) / 32)
                                                     : 0)) {}
};

// Fills `pixels` and `keep`. There is at least one box and one pixel.
void keep_boxes_cuda(cudaStream_t stream, const LpsPasteBoxesParams& p, const PasteInputs& in, const KeepWorkspace& w);

}  // namespace lps
