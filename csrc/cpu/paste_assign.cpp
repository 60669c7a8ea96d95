#include "cpu/paste_assign.h"

#include <algorithm>
#include <numeric>

#include "core/bilinear.h"
#include "core/borderness.h"
#include "cpu/simd.h"

namespace lps {
namespace {

// Pixels of the class that nobody owns yet.
LPS_SIMD_CLONES void claim(const uint8_t* labels, int begin, int end, int32_t label, int32_t id, int32_t* owner) {
  for (int x = begin; x < end; ++x) {
    const int32_t free = -static_cast<int32_t>(labels[x] == label) & -static_cast<int32_t>(owner[x] == 0);
    owner[x] |= id & free;
  }
}

// Pixels of the class that nobody owns or whose owner has the larger gap, which is what `best` holds.
LPS_SIMD_CLONES void contest(const uint8_t* labels, int begin, int end, int32_t label, int32_t id, const float* gap,
                             float* best, int32_t* owner) {
  for (int x = begin; x < end; ++x) {
    const bool wins = static_cast<int>(labels[x] == label) & static_cast<int>((owner[x] == 0) | (gap[x] < best[x]));
    owner[x] = wins ? id : owner[x];
    best[x] = wins ? gap[x] : best[x];
  }
}

// The gap between the border-ness of a box and that predicted, along a row. `top` and `bottom` are the rows of the map.
LPS_SIMD_CLONES void gap_row(const Box& box, float y, float scale_x, const float* top, const float* bottom,
                             float weight_y, const int32_t* low, const int32_t* high, const float* weight_x, int begin,
                             int end, float* out) {
  // Apart, because the gathers of the first loop would keep the second from being vectorised.
  for (int x = begin; x < end; ++x)
    out[x] = lerp(lerp(top[low[x]], top[high[x]], weight_x[x]), lerp(bottom[low[x]], bottom[high[x]], weight_x[x]),
                  weight_y);
  for (int x = begin; x < end; ++x) out[x] = borderness_gap(box, pixel_centre(x, scale_x), y, out[x]);
}

}  // namespace

PasteAssignment::PasteAssignment(const LpsPasteBoxesParams& params, const PasteInputs& in,
                                 const std::vector<PasteBox>& kept)
    : params_(params), in_(in), kept_(kept), order_(kept.size()), rivals_(kept.size()) {
  std::iota(order_.begin(), order_.end(), 0);
  if (params.assignment == LPS_SMALLEST_AREA)
    std::stable_sort(order_.begin(), order_.end(),
                     [&](int32_t a, int32_t b) { return area(kept[a].box) < area(kept[b].box); });
  if (params.assignment != LPS_CLOSEST_BORDERNESS) return;
  for (size_t i = 0; i < kept.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (kept[i].label != kept[j].label || !meet(kept[i].pixels, kept[j].pixels)) continue;
      rivals_[i].push_back(static_cast<int32_t>(j));
      rivals_[j].push_back(static_cast<int32_t>(i));
    }
  }
  taps_.resize(params.levels.num_levels);
  for (int level = 0; level < params.levels.num_levels; ++level) {
    for (int x = 0; x < params.width; ++x) {
      const float column = pixel_centre(x, params.scale_x) / static_cast<float>(params.levels.stride[level]);
      const LinearTap tap = linear_tap(column, params.levels.width[level]);
      taps_[level].low.push_back(tap.low);
      taps_[level].high.push_back(tap.high);
      taps_[level].weight.push_back(tap.weight);
    }
  }
}

void PasteAssignment::gaps(const PasteBox& b, int y, int begin, int end, float* out) const {
  if (b.level < 0 || b.level >= params_.levels.num_levels) {  // nothing was predicted for it
    std::fill(out + begin, out + end, __builtin_huge_valf());
    return;
  }
  const float centre = pixel_centre(y, params_.scale_y);
  const float row = centre / static_cast<float>(params_.levels.stride[b.level]);
  const LinearTap tap = linear_tap(row, params_.levels.height[b.level]);
  const float* map = in_.borderness[b.level];
  const size_t width = params_.levels.width[b.level];
  const Taps& taps = taps_[b.level];
  gap_row(b.box, centre, params_.scale_x, map + tap.low * width, map + tap.high * width, tap.weight, taps.low.data(),
          taps.high.data(), taps.weight.data(), begin, end, out);
}

void PasteAssignment::row(int y, int32_t* owner, float* scratch) const {
  float *gap = scratch, *best = scratch + params_.width;
  const uint8_t* labels = in_.labels + static_cast<size_t>(y) * params_.width;
  std::fill_n(owner, params_.width, 0);
  for (const int32_t i : order_) {
    const PasteBox& b = kept_[i];
    if (y < b.pixels.y0 || y >= b.pixels.y1) continue;
    int begin = b.pixels.x1, end = b.pixels.x0;  // the columns where rivals claim pixels of this row
    for (const int32_t j : rivals_[i]) {
      const PixelRange& rival = kept_[j].pixels;
      if (y < rival.y0 || y >= rival.y1) continue;
      begin = std::min(begin, std::max(b.pixels.x0, rival.x0));
      end = std::max(end, std::min(b.pixels.x1, rival.x1));
    }
    if (begin >= end) {
      claim(labels, b.pixels.x0, b.pixels.x1, b.label, i + 1, owner);
      continue;
    }
    claim(labels, b.pixels.x0, begin, b.label, i + 1, owner);
    gaps(b, y, begin, end, gap);
    contest(labels, begin, end, b.label, i + 1, gap, best, owner);
    claim(labels, end, b.pixels.x1, b.label, i + 1, owner);
  }
}

}  // namespace lps
