#pragma once
#include "lpsnet.h"

namespace lps {

// T is float or double, as params.dtype says.
template <typename T>
void deform_columns_cpu(const LpsDeformColumnsParams& params, const T* input, const T* offset, const T* mask,
                        T* columns);

// Bit-equal on any number of threads: one thread adds up each element of grad_input, in the order of the positions.
template <typename T>
void deform_columns_backward_cpu(const LpsDeformColumnsParams& params, const T* input, const T* offset, const T* mask,
                                 const T* grad_columns, T* grad_input, T* grad_offset, T* grad_mask);

}  // namespace lps
