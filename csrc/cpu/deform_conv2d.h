#pragma once
#include "core/deform_conv2d.h"

namespace lps {

// T is float, Float16 or BFloat16, as the params' dtype says.
template <typename T>
void deform_conv2d_cpu(const DeformConv2d& conv, const T* input, const T* weight, const float* bias, T* out);

}  // namespace lps
