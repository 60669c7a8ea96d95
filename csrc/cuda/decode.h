#pragma once
#include "lpsnet.h"

namespace lps {

size_t decode_cuda_workspace(const LpsDecodeParams& params);

void decode_cuda(const LpsDecodeParams& params, const LpsContext& context, const void* logits, const uint8_t* is_thing,
                 const float* const* ltrb, const float* const* borderness, float* boxes, float* scores, int32_t* labels,
                 int32_t* box_levels, int32_t* num_boxes);

}  // namespace lps
