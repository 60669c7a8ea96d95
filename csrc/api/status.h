// How an API function reports what is wrong with its arguments.
#pragma once
#include <exception>
#include <new>
#include <sstream>
#include <string>

#include "core/device_error.h"
#include "lpsnet.h"

namespace lps {

// Whether this build has kernels. What `if constexpr (kHasCuda)` guards need not be linked where it has none.
#ifdef LPS_HAS_CUDA
constexpr bool kHasCuda = true;
#else
constexpr bool kHasCuda = false;
#endif

// Remembers the message for lps_last_error and returns the status.
LpsStatus fail(LpsStatus status, std::string message);

// "op: name: expected <expected>, got <got>".
template <typename T>
LpsStatus invalid(const char* op, const char* name, const char* expected, const T& got) {
  std::ostringstream message;
  message << op << ": " << name << ": expected " << expected << ", got " << got;
  return fail(LPS_INVALID_ARGUMENT, message.str());
}

// LPS_OK where the device is there; else the error that says how to get it. Also catches a null context.
LpsStatus check_device(const char* op, const LpsContext* context);

// LPS_OK where the pointer is there or, for an array without elements, not needed.
LpsStatus check_pointer(const char* op, const char* name, const void* pointer, bool needed = true);

// LPS_OK where the workspace is there and large enough.
LpsStatus check_workspace(const char* op, const LpsContext* context, size_t needed);

// LPS_OK where the levels are 1 .. LPS_MAX_LEVELS of positive sizes and strides.
LpsStatus check_levels(const char* op, const LpsLevels& levels);

// LPS_OK where both scales are positive and finite.
LpsStatus check_scale(const char* op, float scale_y, float scale_x);

// LPS_OK where the numbers are float32, float16 or bfloat16.
LpsStatus check_dtype(const char* op, const char* name, int32_t dtype);

// LPS_OK where the flag is 0 or 1.
LpsStatus check_flag(const char* op, const char* name, int32_t flag);

// Runs the body of an API function: no exception crosses the C boundary.
template <typename Body>
LpsStatus guarded(const char* op, Body&& body) {
  try {
    body();
    return LPS_OK;
  } catch (const std::bad_alloc&) {
    return fail(LPS_OUT_OF_MEMORY, std::string(op) + ": out of memory");
  } catch (const DeviceError& error) {
    return fail(LPS_CUDA_ERROR, std::string(op) + ": " + error.what());
  } catch (const std::exception& error) {
    return fail(LPS_INVALID_ARGUMENT, std::string(op) + ": " + error.what());
  }
}

// A size, or 0 with an error for lps_last_error where the device cannot say.
template <typename Body>
size_t guarded_size(const char* op, Body&& body) {
  size_t size = 0;
  return guarded(op, [&] { size = body(); }) == LPS_OK ? size : 0;
}

}  // namespace lps

#define LPS_RETURN_IF_FAILED(expression)           \
  do {                                             \
    const LpsStatus lps_status_ = (expression);    \
    if (lps_status_ != LPS_OK) return lps_status_; \
  } while (0)
