#pragma once
#include "core/roi_pyramid.h"

namespace lps {
void roi_align_cpu(const RoiPyramid& pyramid, float* out);
}
