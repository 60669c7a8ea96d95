#pragma once
#include "core/deform_conv2d.h"

namespace lps {

// T is float, Float16 or BFloat16, as the params' dtype says. There is at least one output position.
template <typename T>
void deform_conv2d_cuda(const DeformConv2d& conv, void* stream, const T* input, const T* weight, const float* bias,
                        T* out);

// The same on tensor cores. group_channels() is a multiple of 8; input and weight begin at multiples of 16 bytes;
// BFloat16 wants compute capability 8.
template <typename T>
void deform_conv2d_tensor_cores(const DeformConv2d& conv, void* stream, const T* input, const T* weight,
                                const float* bias, T* out);

}  // namespace lps
