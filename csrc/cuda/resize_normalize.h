#pragma once
#include "lpsnet.h"

namespace lps {

size_t resize_normalize_cuda_workspace(const LpsResizeNormalizeParams& params);

void resize_normalize_cuda(const LpsResizeNormalizeParams& params, const LpsContext& context, const uint8_t* image,
                           void* out);

}  // namespace lps
