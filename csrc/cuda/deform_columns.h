#pragma once
#include "lpsnet.h"

namespace lps {

// T is float or double, as params.dtype says.
template <typename T>
void deform_columns_cuda(const LpsDeformColumnsParams& params, void* stream, const T* input, const T* offset,
                         const T* mask, T* columns);

// grad_input is added up by atomics, in no fixed order: it is equal from run to run to rounding, not to the bit.
template <typename T>
void deform_columns_backward_cuda(const LpsDeformColumnsParams& params, void* stream, const T* input, const T* offset,
                                  const T* mask, const T* grad_columns, T* grad_input, T* grad_offset, T* grad_mask);

}  // namespace lps
