#pragma once
#include "core/box.h"
#include "lpsnet.h"

namespace lps {

struct Candidates {
  const Box* boxes;
  const float* scores;
  const int32_t* labels;
  const int32_t* levels;
};

// The kept candidates in their order, then padding: boxes and scores 0, labels and levels -1.
void gather_detections_cpu(const Candidates& from, const int32_t* kept, int32_t num_kept, int32_t max_detections,
                           Box* boxes, float* scores, int32_t* labels, int32_t* levels);

}  // namespace lps
