#include "cpu/paste_keep.h"

#include <algorithm>
#include <numeric>

#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace lps {
namespace {

constexpr int kLanes = 64;

inline int32_t take_sums(uint8_t* sums) {
  int32_t total = 0;
  for (int j = 0; j < kLanes; ++j) total += sums[j];
  std::fill_n(sums, kLanes, uint8_t{0});
  return total;
}

// How many pixels of a rectangle have the label. Byte lanes are summed for as long as a byte can hold the sum.
LPS_SIMD_CLONES int32_t count_label(const uint8_t* labels, size_t stride, int rows, int columns, uint8_t label) {
  int32_t total = 0;
  if (columns < kLanes) {
    for (int y = 0; y < rows; ++y, labels += stride)
      for (int x = 0; x < columns; ++x) total += labels[x] == label;
    return total;
  }
  const int whole = columns / kLanes, rest = columns % kLanes;
  uint8_t in_rest[kLanes];  // the rest is read as the last kLanes columns, of which some are counted already
  for (int j = 0; j < kLanes; ++j) in_rest[j] = j >= kLanes - rest;
  uint8_t sums[kLanes] = {};
  int room = 255;
  for (int y = 0; y < rows; ++y, labels += stride) {
    for (int k = 0; k < whole;) {
      const int end = std::min(whole, k + room);
      room -= end - k;
      for (; k < end; ++k)
        for (int j = 0; j < kLanes; ++j) sums[j] = static_cast<uint8_t>(sums[j] + (labels[k * kLanes + j] == label));
      if (room == 0) total += take_sums(sums), room = 255;
    }
    const uint8_t* last = labels + columns - kLanes;
    for (int j = 0; j < kLanes; ++j) sums[j] = static_cast<uint8_t>(sums[j] + ((last[j] == label) & in_rest[j]));
    if (--room == 0) total += take_sums(sums), room = 255;
  }
  return total + take_sums(sums);
}

struct Keeper {
  const LpsPasteBoxesParams& params;
  const uint8_t* labels;
  const std::vector<PasteBox>& boxes;

  int32_t count(const PixelRange& r, int32_t label) const {
    const size_t width = params.width;
    return count_label(labels + r.y0 * width + r.x0, width, r.y1 - r.y0, r.x1 - r.x0, static_cast<uint8_t>(label));
  }

  // The pixels of the mask of `b` in any of the rivals, which are sorted by their first column. Between one row where a
  // rival begins or ends and the next, the columns are walked from the left, so that no pixel counts twice and no map
  // of occupied pixels is needed.
  int32_t occupied_pixels(const PasteBox& b, const int32_t* rivals, int num_rivals) const {
    int32_t total = 0;
    for (int y = b.pixels.y0, next = y; y < b.pixels.y1; y = next) {
      next = b.pixels.y1;
      for (int k = 0; k < num_rivals; ++k) {
        const PixelRange& rival = boxes[rivals[k]].pixels;
        if (rival.y0 > y) next = std::min(next, rival.y0);
        if (rival.y1 > y) next = std::min(next, rival.y1);
      }
      int reached = b.pixels.x0;
      for (int k = 0; k < num_rivals; ++k) {
        const PixelRange& rival = boxes[rivals[k]].pixels;
        if (y < rival.y0 || y >= rival.y1) continue;
        const int begin = std::max(reached, rival.x0), end = std::min(b.pixels.x1, rival.x1);
        if (begin >= end) continue;
        total += count({begin, y, end, next}, b.label);
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
    for (int64_t i = begin; i < end; ++i) mask[i] = keeper.count(boxes[i].pixels, boxes[i].label);
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
