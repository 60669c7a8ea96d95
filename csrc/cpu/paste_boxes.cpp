// One pass over the rows gives every pixel a code (0 void, 1 .. K the kept boxes, K + 1 + c the stuff class c) and
// counts the codes; what is left of them becomes the ids in a second.
#include "cpu/paste_boxes.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/paste_assign.h"
#include "cpu/paste_keep.h"
#include "cpu/simd.h"

namespace lps {
namespace {

constexpr int64_t kPixelsPerPiece = 1 << 15;

// The pixels of one code: how many, and the tight box.
struct Extent {
  int32_t area = 0;
  int32_t x0 = std::numeric_limits<int32_t>::max(), y0 = x0, x1 = 0, y1 = 0;

  void add(const Extent& other) {
    area += other.area;
    x0 = std::min(x0, other.x0);
    y0 = std::min(y0, other.y0);
    x1 = std::max(x1, other.x1);
    y1 = std::max(y1, other.y1);
  }
};

// Gives the pixels of a row that no box owns their code, and counts all of them, run by run of equal labels.
class RowCounter {
 public:
  RowCounter(const LpsPasteBoxesParams& params, const PasteInputs& in, int32_t num_kept)
      : width_(params.width), in_(in) {
    for (int c = 0; c < params.num_classes; ++c) {
      is_thing_[c] = in.is_thing[c] != 0;
      code_[c] = is_thing_[c] ? 0 : num_kept + 1 + c;
    }
  }

  void row(int32_t y, int32_t* codes, Extent* extents) const {
    const uint8_t* labels = in_.labels + static_cast<size_t>(y) * width_;
    const uint8_t* stuff_labels = in_.stuff_labels ? in_.stuff_labels + static_cast<size_t>(y) * width_ : nullptr;
    for (int begin = 0, end; begin < width_; begin = end) {
      end = run_end(labels, begin, width_);
      const uint8_t label = labels[begin];
      if (!is_thing_[label]) {
        std::fill(codes + begin, codes + end, code_[label]);
        extents[code_[label]].add({end - begin, begin, y, end, y + 1});
        continue;
      }
      for (int x = begin; stuff_labels && x < end; ++x) codes[x] = codes[x] ? codes[x] : code_[stuff_labels[x]];
      for (int x = begin, next; x < end; x = next) {
        next = run_end(codes, x, end);
        extents[codes[x]].add({next - x, x, y, next, y + 1});
      }
    }
  }

 private:
  // The end of the run of equal values that begins at `begin`.
  template <typename T>
  static int run_end(const T* values, int begin, int end) {
    constexpr int per_word = static_cast<int>(sizeof(uint64_t) / sizeof(T));
    uint64_t wanted, word;
    T repeated[per_word];
    std::fill_n(repeated, per_word, values[begin]);
    std::memcpy(&wanted, repeated, sizeof wanted);
    int i = begin + 1;
    for (; i + per_word <= end; i += per_word) {
      std::memcpy(&word, values + i, sizeof word);
      if (word != wanted) break;
    }
    while (i < end && values[i] == values[begin]) ++i;
    return i;
  }

  int width_;
  const PasteInputs& in_;
  int32_t code_[256] = {};  // of each label where no box owns the pixel: that of a stuff class, else void
  bool is_thing_[256] = {};
};

LPS_SIMD_CLONES void replace(const int32_t* id_of_code, int64_t count, int32_t* codes) {
  for (int64_t i = 0; i < count; ++i) codes[i] = id_of_code[codes[i]];
}

void add_segment(const PasteOutputs& out, int32_t label, float score, const Extent& extent) {
  const int32_t i = (*out.num_segments)++;
  out.segment_labels[i] = label;
  out.segment_scores[i] = score;
  out.segment_areas[i] = extent.area;
  const int32_t box[4] = {extent.x0, extent.y0, extent.x1, extent.y1};
  std::copy_n(box, 4, out.segment_boxes + 4 * static_cast<size_t>(i));
}

void pad_segments(const LpsPasteBoxesParams& params, const PasteOutputs& out) {
  const size_t rows = static_cast<size_t>(params.num_boxes) + params.num_classes;
  std::fill(out.segment_labels + *out.num_segments, out.segment_labels + rows, -1);
  std::fill(out.segment_scores + *out.num_segments, out.segment_scores + rows, 0.f);
  std::fill(out.segment_areas + *out.num_segments, out.segment_areas + rows, 0);
  std::fill(out.segment_boxes + 4 * static_cast<size_t>(*out.num_segments), out.segment_boxes + 4 * rows, 0);
}

}  // namespace

void paste_boxes_cpu(const LpsPasteBoxesParams& params, const PasteInputs& in, const PasteOutputs& out) {
  const std::vector<PasteBox> kept = kept_boxes(params, in);
  const PasteAssignment assignment(params, in, kept);
  const int32_t num_kept = static_cast<int32_t>(kept.size());
  const RowCounter counter(params, in, num_kept);

  // Each strip of rows counts for itself.
  const size_t num_codes = static_cast<size_t>(num_kept) + 1 + params.num_classes;
  const int64_t pixels = int64_t{params.height} * params.width;
  const int64_t num_strips =
      std::min<int64_t>(params.height, std::min<int64_t>(4 * num_threads(), 1 + pixels / kPixelsPerPiece));
  std::vector<Extent> extents(num_strips * num_codes);
  std::vector<float> scratch(num_strips * 2 * params.width);
  parallel_for(num_strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; ++strip) {
      const int first = static_cast<int>(strip * params.height / num_strips);
      const int last = static_cast<int>((strip + 1) * params.height / num_strips);
      for (int y = first; y < last; ++y) {
        int32_t* codes = out.ids + static_cast<size_t>(y) * params.width;
        assignment.row(y, codes, scratch.data() + strip * 2 * params.width);
        counter.row(y, codes, extents.data() + strip * num_codes);
      }
    }
  });

  std::vector<int32_t> id_of_code(num_codes, 0);
  *out.num_segments = 0;
  for (size_t code = 1; code < num_codes; ++code) {
    Extent total;
    for (int64_t strip = 0; strip < num_strips; ++strip) total.add(extents[strip * num_codes + code]);
    const bool is_box = code <= kept.size();
    if (total.area == 0 || (!is_box && total.area < params.stuff_area_limit)) continue;
    const int32_t stuff_label = static_cast<int32_t>(code) - num_kept - 1;
    add_segment(out, is_box ? kept[code - 1].label : stuff_label, is_box ? in.scores[kept[code - 1].index] : 1.f,
                total);
    id_of_code[code] = *out.num_segments;
  }
  pad_segments(params, out);
  parallel_for(pixels, kPixelsPerPiece,
               [&](int64_t begin, int64_t end) { replace(id_of_code.data(), end - begin, out.ids + begin); });
}

}  // namespace lps
