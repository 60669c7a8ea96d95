#pragma once
#include "lpsnet.h"

namespace lps {

void upsample_argmax_cuda(const LpsUpsampleArgmaxParams& params, const LpsContext& context, const void* logits,
                          const uint8_t* allowed, uint8_t* labels);

}  // namespace lps
