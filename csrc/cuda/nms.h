#pragma once
#include "core/box.h"
#include "lpsnet.h"

namespace lps {

size_t nms_cuda_workspace(const LpsNmsParams& params);

void nms_cuda(const LpsNmsParams& params, const LpsContext& context, const Box* boxes, const float* scores,
              const int32_t* labels, const int32_t* num_valid, int32_t* kept, int32_t* num_kept);

}  // namespace lps
