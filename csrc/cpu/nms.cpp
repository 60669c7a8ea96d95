#include "cpu/nms.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <vector>

namespace lps {

void nms_cpu(const LpsNmsParams& params, const Box* boxes, const float* scores, const int32_t* labels,
             const int32_t* num_valid, int32_t* kept, int32_t* num_kept) {
  const int32_t num_boxes = num_valid ? std::min(std::max(*num_valid, 0), params.num_boxes) : params.num_boxes;
  std::vector<int32_t> order(num_boxes);
  std::iota(order.begin(), order.end(), 0);
  order.erase(std::remove_if(order.begin(), order.end(), [&](int32_t i) { return !(scores[i] == scores[i]); }),
              order.end());
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });

  // Only boxes of one class can suppress each other, so each class keeps a list of its own.
  std::unordered_map<int32_t, std::vector<int32_t>> kept_of_class;
  int32_t count = 0;
  for (const int32_t i : order) {
    if (count == params.max_kept) break;
    auto& better = kept_of_class[labels[i]];
    const bool suppressed = std::any_of(better.begin(), better.end(),
                                        [&](int32_t j) { return overlaps(boxes[j], boxes[i], params.iou_threshold); });
    if (suppressed) continue;
    better.push_back(i);
    kept[count++] = i;
  }
  std::fill(kept + count, kept + params.max_kept, -1);
  *num_kept = count;
}

}  // namespace lps
