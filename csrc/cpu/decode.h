#pragma once
#include "lpsnet.h"

namespace lps {
void decode_cpu(const LpsDecodeParams& params, const float* logits, const uint8_t* is_thing, const float* const* ltrb,
                const float* const* borderness, float* boxes, float* scores, int32_t* labels, int32_t* box_levels,
                int32_t* num_boxes);
}
