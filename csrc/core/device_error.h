// What the code of a device throws when the device fails; the C API turns it into LPS_CUDA_ERROR.
#pragma once
#include <stdexcept>
#include <string>

namespace lps {

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace lps
