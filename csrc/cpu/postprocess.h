// What joins the operators of lps_postprocess.
#pragma once
#include <cstdint>

#include "core/box.h"

namespace lps {

struct DecodedBoxes {
  const Box* boxes;
  const float* scores;
  const int32_t* labels;
  const int32_t* levels;
};

struct KeptBoxes {
  Box* boxes;
  float* scores;
  int32_t* labels;
  int32_t* levels;
};

// The rows `kept`, of which there are `num_kept`, then padding up to `rows`.
void gather_boxes_cpu(const DecodedBoxes& decoded, const int32_t* kept, int32_t num_kept, int32_t rows,
                      const KeptBoxes& out);

void stuff_classes_cpu(const uint8_t* is_thing, int32_t num_classes, uint8_t* is_stuff);

}  // namespace lps
