#pragma once
#include "core/box.h"
#include "lpsnet.h"

namespace lps {
void nms_cpu(const LpsNmsParams& params, const Box* boxes, const float* scores, const int32_t* labels,
             const int32_t* num_valid, int32_t* kept, int32_t* num_kept);
}
