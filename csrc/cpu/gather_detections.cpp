#include "cpu/gather_detections.h"

namespace lps {

void gather_detections_cpu(const Candidates& from, const int32_t* kept, int32_t num_kept, int32_t max_detections,
                           Box* boxes, float* scores, int32_t* labels, int32_t* levels) {
  for (int32_t i = 0; i < max_detections; ++i) {
    const bool filled = i < num_kept;
    boxes[i] = filled ? from.boxes[kept[i]] : Box{0.f, 0.f, 0.f, 0.f};
    scores[i] = filled ? from.scores[kept[i]] : 0.f;
    labels[i] = filled ? from.labels[kept[i]] : -1;
    levels[i] = filled ? from.levels[kept[i]] : -1;
  }
}

}  // namespace lps
