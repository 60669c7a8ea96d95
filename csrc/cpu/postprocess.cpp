#include "cpu/postprocess.h"

namespace lps {

void gather_boxes_cpu(const DecodedBoxes& decoded, const int32_t* kept, int32_t num_kept, int32_t rows,
                      const KeptBoxes& out) {
  for (int32_t i = 0; i < rows; ++i) {
    const bool filled = i < num_kept;
    out.boxes[i] = filled ? decoded.boxes[kept[i]] : Box{0.f, 0.f, 0.f, 0.f};
    out.scores[i] = filled ? decoded.scores[kept[i]] : 0.f;
    out.labels[i] = filled ? decoded.labels[kept[i]] : -1;
    out.levels[i] = filled ? decoded.levels[kept[i]] : -1;
  }
}

void stuff_classes_cpu(const uint8_t* is_thing, int32_t num_classes, uint8_t* is_stuff) {
  for (int32_t c = 0; c < num_classes; ++c) is_stuff[c] = !is_thing[c];
}

}  // namespace lps
