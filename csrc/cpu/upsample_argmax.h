#pragma once
#include "lpsnet.h"

namespace lps {
void upsample_argmax_cpu(const LpsUpsampleArgmaxParams& params, const float* logits, const uint8_t* allowed,
                         uint8_t* labels);
}
