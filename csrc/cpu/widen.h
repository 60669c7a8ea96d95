// The loops of the CPU read logits as float32 of the layout [class][row][column]. Others are brought into it first.
#pragma once
#include <cstddef>

#include "core/logits.h"

namespace lps {

// How many floats the widened logits are; 0 where they are read as they are.
size_t widened_size(const LogitsFormat& format);

// The logits themselves, or `widened` filled with them.
const float* widen_logits_cpu(const LogitsFormat& format, const void* logits, float* widened);

}  // namespace lps
