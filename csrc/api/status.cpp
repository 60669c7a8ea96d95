#include "api/status.h"

#include <cmath>

#include "cuda/device.h"

namespace lps {
namespace {
thread_local std::string last_error;
}  // namespace

LpsStatus fail(LpsStatus status, std::string message) {
  last_error = std::move(message);
  return status;
}

LpsStatus check_device(const char* op, const LpsContext* context) {
  if (context == nullptr) return invalid(op, "context", "a pointer", "null");
  if (context->device == LPS_CPU) return LPS_OK;
  if (context->device == LPS_CUDA) {
    if (!kHasCuda)
      return fail(LPS_NOT_BUILT, std::string(op) +
                                     ": this build of liblpsnet has no CUDA code; move the data to the CPU, or rebuild "
                                     "with LPSNET_CUDA=ON");
    if (lps_num_cuda_devices() == 0)
      return fail(LPS_CUDA_ERROR, std::string(op) + ": expected a CUDA device, found none");
    return LPS_OK;
  }
  return invalid(op, "context.device", "LPS_CPU (0) or LPS_CUDA (1)", context->device);
}

LpsStatus check_pointer(const char* op, const char* name, const void* pointer, bool needed) {
  return needed && pointer == nullptr ? invalid(op, name, "a pointer", "null") : LPS_OK;
}

LpsStatus check_workspace(const char* op, const LpsContext* context, size_t needed) {
  if (needed == 0) return LPS_OK;
  if (context->workspace == nullptr) return invalid(op, "context.workspace", "a pointer", "null");
  if (context->workspace_size < needed) {
    const std::string expected = "at least " + std::to_string(needed);
    return invalid(op, "context.workspace_size", expected.c_str(), context->workspace_size);
  }
  return LPS_OK;
}

LpsStatus check_levels(const char* op, const LpsLevels& levels) {
  if (levels.num_levels < 1 || levels.num_levels > LPS_MAX_LEVELS)
    return invalid(op, "levels.num_levels", "1 to 8", levels.num_levels);
  for (int i = 0; i < levels.num_levels; ++i) {
    if (levels.height[i] < 1) return invalid(op, "levels.height", "at least 1", levels.height[i]);
    if (levels.width[i] < 1) return invalid(op, "levels.width", "at least 1", levels.width[i]);
    if (levels.stride[i] < 1) return invalid(op, "levels.stride", "at least 1", levels.stride[i]);
  }
  return LPS_OK;
}

LpsStatus check_scale(const char* op, float scale_y, float scale_x) {
  if (!(scale_y > 0.f && std::isfinite(scale_y))) return invalid(op, "scale_y", "a finite number above 0", scale_y);
  if (!(scale_x > 0.f && std::isfinite(scale_x))) return invalid(op, "scale_x", "a finite number above 0", scale_x);
  return LPS_OK;
}

LpsStatus check_dtype(const char* op, const char* name, int32_t dtype) {
  if (dtype == LPS_FLOAT32 || dtype == LPS_FLOAT16 || dtype == LPS_BFLOAT16) return LPS_OK;
  return invalid(op, name, "LPS_FLOAT32 (0), LPS_FLOAT16 (2) or LPS_BFLOAT16 (3)", dtype);
}

LpsStatus check_flag(const char* op, const char* name, int32_t flag) {
  return flag == 0 || flag == 1 ? LPS_OK : invalid(op, name, "0 or 1", flag);
}

}  // namespace lps

const char* lps_last_error(void) { return lps::last_error.c_str(); }

int32_t lps_num_cuda_devices(void) {
  if constexpr (lps::kHasCuda) {
    static const int32_t count = lps::count_cuda_devices();
    return count;
  }
  return 0;
}
