#pragma once
#include "lpsnet.h"

namespace lps {
void resize_normalize_cpu(const LpsResizeNormalizeParams& params, const uint8_t* image, void* out);
}
