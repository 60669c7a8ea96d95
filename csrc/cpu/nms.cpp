#include "cpu/nms.h"

#include <algorithm>
#include <vector>

#include "core/order.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace lps {
namespace {

// Candidates of one class that are held against its kept boxes in one go, and boxes between two looks at the result.
constexpr int64_t kBlock = 512, kStep = 128;
// A class with at least so many candidates is worth threads of its own.
constexpr int64_t kLargeClass = 1024;

// Boxes as a structure of arrays, so that one box is held against many at once.
struct Boxes {
  explicit Boxes(size_t size) : x1(size), y1(size), x2(size), y2(size), areas(size) {}

  void set(int64_t i, const Box& box) {
    x1[i] = box.x1, y1[i] = box.y1, x2[i] = box.x2, y2[i] = box.y2;
    areas[i] = area(box);
  }

  std::vector<float> x1, y1, x2, y2, areas;
};

LPS_SIMD_CLONES bool any_overlaps(const Boxes& boxes, int64_t begin, int64_t end, const Box& box, float threshold) {
  const float *x1 = boxes.x1.data(), *y1 = boxes.y1.data(), *x2 = boxes.x2.data(), *y2 = boxes.y2.data();
  const float* areas = boxes.areas.data();
  const float box_area = area(box);
  for (int64_t i = begin; i < end; i += kStep) {
    const int64_t stop = std::min(end, i + kStep);
    int found = 0;
    for (int64_t j = i; j < stop; ++j)
      found |= overlaps(Box{x1[j], y1[j], x2[j], y2[j]}, areas[j], box, box_area, threshold);
    if (found) return true;
  }
  return false;
}

// One greedy pass over the boxes, class by class. A rank is a place in the order of descending score.
class Suppression {
 public:
  Suppression(const LpsNmsParams& params, const Box* boxes, const float* scores, const int32_t* labels,
              int32_t num_valid)
      : params_(params), boxes_(boxes), kept_boxes_(0) {
    std::vector<uint64_t> order;
    order.reserve(num_valid);
    for (int32_t i = 0; i < num_valid; ++i)
      if (scores[i] == scores[i] && is_finite(boxes[i])) order.push_back(descending_key(scores[i], i));
    std::sort(order.begin(), order.end());

    const size_t size = order.size();
    indices_.resize(size);
    std::vector<uint64_t> by_class(size);
    for (size_t rank = 0; rank < size; ++rank) {
      indices_[rank] = index_of(order[rank]);
      by_class[rank] = static_cast<uint64_t>(static_cast<uint32_t>(labels[indices_[rank]])) << 32 | rank;
    }
    std::sort(by_class.begin(), by_class.end());
    ranks_.resize(size);
    for (size_t i = 0; i < size; ++i) {
      ranks_[i] = index_of(by_class[i]);
      if (i == 0 || by_class[i] >> 32 != by_class[i - 1] >> 32) class_begins_.push_back(i);
    }
    class_begins_.push_back(size);
    kept_boxes_ = Boxes(size);
    keep_.assign(size, 0);
  }

  // Only boxes of one class suppress each other: small classes run side by side, a large one is spread over threads.
  void run() {
    const int64_t num_classes = class_begins_.size() - 1;
    const auto is_large = [&](int64_t c) { return class_begins_[c + 1] - class_begins_[c] >= kLargeClass; };
    for (int64_t c = 0; c < num_classes; ++c)
      if (is_large(c)) run_class(class_begins_[c], class_begins_[c + 1]);
    const int64_t grain = std::max<int64_t>(1, kLargeClass * num_classes / std::max<int64_t>(1, ranks_.size()));
    parallel_for(num_classes, grain, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        if (!is_large(c)) run_class(class_begins_[c], class_begins_[c + 1]);
    });
  }

  int32_t write(int32_t* kept) const {
    int32_t count = 0;
    for (size_t rank = 0; rank < keep_.size() && count < params_.max_kept; ++rank)
      if (keep_[rank]) kept[count++] = indices_[rank];
    std::fill(kept + count, kept + params_.max_kept, -1);
    return count;
  }

 private:
  // Candidates [begin, end) of ranks_ in blocks: those that survive the boxes kept before their block, which they do
  // independently of each other, then meet the boxes kept within it, one after the other.
  void run_class(int64_t begin, int64_t end) {
    int64_t num_kept = 0;
    for (int64_t block = begin; block < end && num_kept < params_.max_kept; block += kBlock) {
      const int64_t stop = std::min(end, block + kBlock), before = begin + num_kept;
      parallel_for(stop - block, 64, [&](int64_t from, int64_t to) {
        for (int64_t i = block + from; i < block + to; ++i)
          keep_[ranks_[i]] = !any_overlaps(kept_boxes_, begin, before, box(i), params_.iou_threshold);
      });
      for (int64_t i = block; i < stop; ++i) {
        char& keep = keep_[ranks_[i]];
        keep = keep && num_kept < params_.max_kept &&
               !any_overlaps(kept_boxes_, before, begin + num_kept, box(i), params_.iou_threshold);
        if (keep) kept_boxes_.set(begin + num_kept++, box(i));
      }
    }
  }

  const Box& box(int64_t i) const { return boxes_[indices_[ranks_[i]]]; }

  const LpsNmsParams& params_;
  const Box* boxes_;
  std::vector<int32_t> indices_;       // [rank] into boxes_
  std::vector<int32_t> ranks_;         // by class, within it ascending
  std::vector<int64_t> class_begins_;  // into ranks_
  Boxes kept_boxes_;                   // those of a class from its begin on
  std::vector<char> keep_;             // [rank]
};

}  // namespace

void nms_cpu(const LpsNmsParams& params, const Box* boxes, const float* scores, const int32_t* labels,
             const int32_t* num_valid, int32_t* kept, int32_t* num_kept) {
  const int32_t count = num_valid ? std::min(std::max(*num_valid, 0), params.num_boxes) : params.num_boxes;
  Suppression suppression(params, boxes, scores, labels, count);
  suppression.run();
  *num_kept = suppression.write(kept);
}

}  // namespace lps
