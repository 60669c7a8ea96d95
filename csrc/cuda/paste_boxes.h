#pragma once
#include "cpu/paste_boxes.h"

namespace lps {

size_t paste_boxes_cuda_workspace(const LpsPasteBoxesParams& params);

// The maps that `in.borderness` points to are on the device, the array of pointers on the host.
void paste_boxes_cuda(const LpsPasteBoxesParams& params, const LpsContext& context, const PasteInputs& in,
                      const PasteOutputs& out);

}  // namespace lps
