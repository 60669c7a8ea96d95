#pragma once
#include "core/roi_pyramid.h"

namespace lps {
void roi_align_cuda(const RoiPyramid& pyramid, const LpsContext& context, float* out);
}
