#pragma once
#include "cpu/gather_detections.h"

namespace lps {

// As gather_detections_cpu, the count being on the device.
void gather_detections_cuda(void* stream, const Candidates& from, const int32_t* kept, const int32_t* num_kept,
                            int32_t max_detections, Box* boxes, float* scores, int32_t* labels, int32_t* levels);

// Turns flags around: is_stuff[c] = !is_thing[c].
void invert_flags_cuda(void* stream, const uint8_t* is_thing, int32_t num_classes, uint8_t* is_stuff);

}  // namespace lps
