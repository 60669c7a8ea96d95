#include "cpu/paste_keep.h"

#include <algorithm>
#include <numeric>

#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace lps {
namespace {

constexpr int kBytes = 64;

LPS_SIMD_CLONES int32_t count_equal(const uint8_t* values, int count, uint8_t wanted) {
  int32_t total = 0;
  int i = 0;
  while (count - i >= kBytes) {
    uint8_t sums[kBytes] = {};
    const int rounds = std::min((count - i) / kBytes, 255);  // a byte holds no more
    for (int k = 0; k < rounds; ++k, i += kBytes)
      for (int j = 0; j < kBytes; ++j) sums[j] = static_cast<uint8_t>(sums[j] + (values[i + j] == wanted));
    for (int j = 0; j < kBytes; ++j) total += sums[j];
  }
  for (; i < count; ++i) total += values[i] == wanted;
  return total;
}

struct Keeper {
  const LpsPasteBoxesParams& params;
  const uint8_t* labels;
  const std::vector<PasteBox>& boxes;

  const uint8_t* row(int y) const { return labels + static_cast<size_t>(y) * params.width; }

  int32_t mask_pixels(const PasteBox& b) const {
    int32_t total = 0;
    for (int y = b.pixels.y0; y < b.pixels.y1; ++y)
      total += count_equal(row(y) + b.pixels.x0, b.pixels.x1 - b.pixels.x0, static_cast<uint8_t>(b.label));
    return total;
  }

  // The pixels of the mask of `b` in any of the rivals, which are sorted by their first column: each row is walked
  // from the left, so that no pixel counts twice and no map of occupied pixels is needed.
  int32_t occupied_pixels(const PasteBox& b, const int32_t* rivals, int num_rivals) const {
    int32_t total = 0;
    for (int y = b.pixels.y0; y < b.pixels.y1; ++y) {
      int reached = b.pixels.x0;
      for (int k = 0; k < num_rivals; ++k) {
        const PixelRange& rival = boxes[rivals[k]].pixels;
        if (y < rival.y0 || y >= rival.y1) continue;
        const int begin = std::max(reached, rival.x0), end = std::min(b.pixels.x1, rival.x1);
        if (begin >= end) continue;
        total += count_equal(row(y) + begin, end - begin, static_cast<uint8_t>(b.label));
        reached = end;
      }
    }
    return total;
  }

  // Decides on the boxes of one class, best first. `by_column` and `rivals` have room for as many.
  void decide(const int32_t* order, int count, const int32_t* mask, int32_t* by_column, int32_t* rivals,
              uint8_t* kept) const {
    int num_kept = 0;
    for (int i = 0; i < count; ++i) {
      const PasteBox& b = boxes[order[i]];
      const auto end = std::copy_if(by_column, by_column + num_kept, rivals,
                                    [&](int32_t j) { return meet(boxes[j].pixels, b.pixels); });
      const int32_t occupied = occupied_pixels(b, rivals, static_cast<int>(end - rivals));
      kept[order[i]] = keeps(mask[order[i]], occupied, params.overlap_threshold);
      if (!kept[order[i]]) continue;
      const auto place = std::upper_bound(by_column, by_column + num_kept, b.pixels.x0,
                                          [&](int column, int32_t j) { return column < boxes[j].pixels.x0; });
      std::copy_backward(place, by_column + num_kept, by_column + num_kept + 1);
      *place = order[i];
      ++num_kept;
    }
  }
};

std::vector<PasteBox> candidates(const LpsPasteBoxesParams& params, const PasteInputs& in) {
  const int32_t count = in.num_valid ? std::min(std::max(*in.num_valid, 0), params.num_boxes) : params.num_boxes;
  std::vector<PasteBox> boxes;
  for (int32_t i = 0; i < count; ++i) {
    const Box& box = in.boxes[i];
    const int32_t label = in.box_labels[i];
    if (!takes_part(box, in.scores[i], label, params.paste_score, in.is_thing, params.num_classes)) continue;
    const PixelRange pixels = pixels_of(box, params.scale_y, params.scale_x, params.height, params.width);
    if (!empty(pixels)) boxes.push_back({box, pixels, i, label, in.box_levels ? in.box_levels[i] : -1});
  }
  return boxes;
}

}  // namespace

std::vector<PasteBox> kept_boxes(const LpsPasteBoxesParams& params, const PasteInputs& in) {
  std::vector<PasteBox> boxes = candidates(params, in);
  const size_t count = boxes.size();
  const Keeper keeper{params, in.labels, boxes};
  std::vector<int32_t> mask(count), order(count), by_column(count), rivals(count);
  std::vector<uint8_t> kept(count);
  parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) mask[i] = keeper.mask_pixels(boxes[i]);
  });

  // A pixel has one class, so boxes of different classes never meet: the classes are decided side by side.
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return boxes[a].label < boxes[b].label; });
  std::vector<size_t> starts;
  for (size_t i = 0; i < count; ++i)
    if (i == 0 || boxes[order[i]].label != boxes[order[i - 1]].label) starts.push_back(i);
  starts.push_back(count);
  parallel_for(static_cast<int64_t>(starts.size()) - 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const size_t first = starts[i];
      keeper.decide(&order[first], static_cast<int>(starts[i + 1] - first), mask.data(), &by_column[first],
                    &rivals[first], kept.data());
    }
  });

  size_t num_kept = 0;
  for (size_t i = 0; i < count; ++i)
    if (kept[i]) boxes[num_kept++] = boxes[i];
  boxes.resize(num_kept);
  return boxes;
}

}  // namespace lps
