#pragma once
#include <stdint.h>

namespace lps {

// 0 where there is no driver.
int32_t count_cuda_devices();

}  // namespace lps
