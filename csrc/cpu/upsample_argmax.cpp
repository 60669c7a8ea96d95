// A cell is what lies between four neighbouring logits; many output pixels read the same cell. Cells are taken a row
// at a time and in blocks of neighbours, one per vector lane, so that all reads are contiguous:
//   1. bound:    over all classes, what the best class of each cell reaches at least (core/argmax.h);
//   2. select:   the classes that can reach it in some cell of a block. On most blocks of a real image it is one;
//   3. evaluate: the pixels of the block for the selected classes only, by the plain definition.
#include "cpu/upsample_argmax.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/argmax.h"
#include "core/bilinear.h"
#include "core/float_bits.h"
#include "core/pixel.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace lps {
namespace {

constexpr int kLanes = 16;
constexpr int kBlocksAtOnce = 32;  // so that the state of a run of blocks stays in the L1 cache
constexpr int kRowsAtOnce = 8;
constexpr int kMaxClasses = 255;
constexpr int64_t kPixelsWorthPruning = 4;  // with fewer pixels to a cell it is quicker to evaluate all classes
constexpr int64_t kWorkPerPiece = 1 << 16;

// Along one axis: the output pixels begin .. begin + count - 1 read between the logits low and high.
struct Cell {
  int low, high, begin, count;
};

struct Axis {
  std::vector<Cell> cells;
  std::vector<float> weights;  // of each output pixel
};

Axis make_axis(int in_size, int out_size, float scale) {
  Axis axis;
  axis.weights.reserve(out_size);
  for (int i = 0; i < out_size; ++i) {
    const LinearTap tap = linear_tap(pixel_centre(i, scale), in_size);
    if (axis.cells.empty() || axis.cells.back().low != tap.low) axis.cells.push_back({tap.low, tap.high, i, 0});
    ++axis.cells.back().count;
    axis.weights.push_back(tap.weight);
  }
  return axis;
}

// Up to kLanes cells of a row.
struct Block {
  int first, count;
  bool contiguous;  // kLanes cells side by side, inside the map: the corners are read where they are
  int most_pixels;  // the largest count of its cells
};

std::vector<Block> make_blocks(const std::vector<Cell>& cells, int in_width) {
  std::vector<Block> blocks;
  const int num_cells = static_cast<int>(cells.size());
  // The last column has no right neighbour: its cell stands alone.
  const int inside = num_cells - (num_cells > 0 && cells.back().low == in_width - 1 ? 1 : 0);
  const auto add = [&](int first, int count) {
    const auto begin = cells.begin() + first;
    const bool contiguous =
        count == kLanes && begin[count - 1].low == begin->low + count - 1 && first + count <= inside;
    const auto most = std::max_element(begin, begin + count, [](auto& a, auto& b) { return a.count < b.count; });
    blocks.push_back({first, count, contiguous, most->count});
  };
  for (int i = 0; i < inside; i += kLanes) {
    // The last block reaches back over cells already done rather than be a short one.
    const int first = inside >= kLanes ? std::min(i, inside - kLanes) : i;
    add(first, std::min(kLanes, inside - first));
  }
  if (inside < num_cells) add(inside, 1);
  return blocks;
}

struct Job {
  const LpsUpsampleArgmaxParams& params;
  const float* logits;
  uint8_t* labels;
  Axis y, x;
  std::vector<Block> blocks;
  std::vector<uint8_t> classes;      // those that may win, ascending
  std::vector<float> block_weights;  // [block][pixel of the cell][lane], at weight_begin
  std::vector<size_t> weight_begin;
  bool prune;
};

// The logits of one class at the corners of the cells of a block: kLanes of each.
struct Corners {
  const float *top_low, *top_high, *bottom_low, *bottom_high;
};

// Where a block is not contiguous its corners are gathered into `buffer`, of 4 * kLanes floats.
inline Corners corners(const Job& job, const Block& block, const Cell& y, int cls, float* buffer) {
  const size_t width = job.params.in_width;
  const float* map = job.logits + cls * (job.params.in_height * width);
  const float *top = map + y.low * width, *bottom = map + y.high * width;
  const Cell* cells = job.x.cells.data() + block.first;
  if (block.contiguous) {
    const int low = cells[0].low;
    return {top + low, top + low + 1, bottom + low, bottom + low + 1};
  }
  for (int i = 0; i < block.count; ++i) {
    buffer[i] = top[cells[i].low];
    buffer[kLanes + i] = top[cells[i].high];
    buffer[2 * kLanes + i] = bottom[cells[i].low];
    buffer[3 * kLanes + i] = bottom[cells[i].high];
  }
  return {buffer, buffer + kLanes, buffer + 2 * kLanes, buffer + 3 * kLanes};
}

inline float least(float a, float b) { return a < b ? a : b; }
inline float most(float a, float b) { return a > b ? a : b; }

// The order of magnitudes as integers is that of the numbers, with infinity and NaN above all.
inline uint32_t magnitude(float value) { return float_to_bits(value) & 0x7fffffffu; }

// The classes that can win somewhere in a block, ascending.
struct Candidates {
  bool bounded;  // the corners are such that a single candidate wins everywhere
  int count;
  uint8_t classes[kMaxClasses];
};

LPS_SIMD_CLONES void select_candidates(const Job& job, const Cell& y, int first_block, int num_blocks,
                                       Candidates* candidates) {
  float buffer[4 * kLanes] = {};
  float reached[kBlocksAtOnce][kLanes];
  uint32_t largest[kBlocksAtOnce][kLanes];
  for (int b = 0; b < num_blocks; ++b) {
    std::fill_n(reached[b], kLanes, kWorstValue);
    std::fill_n(largest[b], kLanes, 0u);
  }
  for (const int cls : job.classes) {
    for (int b = 0; b < num_blocks; ++b) {
      const Corners c = corners(job, job.blocks[first_block + b], y, cls, buffer);
      for (int i = 0; i < kLanes; ++i) {
        const float lowest = least(least(c.top_low[i], c.top_high[i]), least(c.bottom_low[i], c.bottom_high[i]));
        reached[b][i] = most(lowest, reached[b][i]);
        const uint32_t top = std::max(magnitude(c.top_low[i]), magnitude(c.top_high[i]));
        const uint32_t bottom = std::max(magnitude(c.bottom_low[i]), magnitude(c.bottom_high[i]));
        largest[b][i] = std::max(largest[b][i], std::max(top, bottom));
      }
    }
  }

  for (int b = 0; b < num_blocks; ++b) {
    const int count = job.blocks[first_block + b].count;
    bool bounded = true;
    for (int i = 0; i < kLanes; ++i) {
      bounded &= i >= count || largest[b][i] < magnitude(kLargestBounded);
      reached[b][i] -= rounding_margin(bits_to_float(largest[b][i]));
      if (i >= count) reached[b][i] = -kWorstValue;
    }
    candidates[b].bounded = bounded;
    candidates[b].count = 0;
  }
  for (const int cls : job.classes) {
    for (int b = 0; b < num_blocks; ++b) {
      const Corners c = corners(job, job.blocks[first_block + b], y, cls, buffer);
      int able = 0;
      for (int i = 0; i < kLanes; ++i) {
        const float highest = most(most(c.top_low[i], c.top_high[i]), most(c.bottom_low[i], c.bottom_high[i]));
        able |= highest >= reached[b][i];
      }
      if (able || !candidates[b].bounded) candidates[b].classes[candidates[b].count++] = static_cast<uint8_t>(cls);
    }
  }
}

// The pixels of a block in up to kRowsAtOnce output rows, from `row` on.
LPS_SIMD_CLONES void evaluate(const Job& job, const Cell& y, const Block& block, const float* weights,
                              const uint8_t* classes, int num_classes, int row, int num_rows) {
  float buffer[4 * kLanes] = {};
  const Cell* cells = job.x.cells.data() + block.first;
  const float* row_weights = job.y.weights.data() + row;
  for (int pixel = 0; pixel < block.most_pixels; ++pixel, weights += kLanes) {
    float best[kRowsAtOnce][kLanes];
    int32_t label[kRowsAtOnce][kLanes];
    for (int r = 0; r < num_rows; ++r) {
      std::fill_n(best[r], kLanes, kWorstValue);
      std::fill_n(label[r], kLanes, int32_t{kVoid});
    }
    for (int k = 0; k < num_classes; ++k) {
      const int32_t cls = classes[k];
      const Corners c = corners(job, block, y, cls, buffer);
      float top[kLanes], bottom[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        top[i] = lerp(c.top_low[i], c.top_high[i], weights[i]);
        bottom[i] = lerp(c.bottom_low[i], c.bottom_high[i], weights[i]);
      }
      for (int r = 0; r < num_rows; ++r) {
        for (int i = 0; i < kLanes; ++i) {
          const float value = lerp(top[i], bottom[i], row_weights[r]);
          const int32_t wins = -static_cast<int32_t>(beats(value, best[r][i]));  // a mask: GCC leaves branches scalar
          label[r][i] ^= (label[r][i] ^ cls) & wins;
          best[r][i] = beats(value, best[r][i]) ? value : best[r][i];
        }
      }
    }
    for (int r = 0; r < num_rows; ++r) {
      uint8_t* out = job.labels + static_cast<size_t>(row + r) * job.params.out_width + pixel;
      for (int i = 0; i < block.count; ++i)
        if (pixel < cells[i].count) out[cells[i].begin] = static_cast<uint8_t>(label[r][i]);
    }
  }
}

void fill(const Job& job, const Cell& y, const Block& block, uint8_t label) {
  const Cell &first = job.x.cells[block.first], &last = job.x.cells[block.first + block.count - 1];
  for (int row = y.begin; row < y.begin + y.count; ++row)
    std::memset(job.labels + static_cast<size_t>(row) * job.params.out_width + first.begin, label,
                last.begin + last.count - first.begin);
}

void cell_row(const Job& job, const Cell& y) {
  Candidates candidates[kBlocksAtOnce];
  const int num_blocks = static_cast<int>(job.blocks.size());
  for (int first = 0; first < num_blocks; first += kBlocksAtOnce) {
    const int count = std::min(kBlocksAtOnce, num_blocks - first);
    if (job.prune) select_candidates(job, y, first, count, candidates);
    for (int b = 0; b < count; ++b) {
      const Block& block = job.blocks[first + b];
      if (job.prune && candidates[b].bounded && candidates[b].count == 1) {
        fill(job, y, block, candidates[b].classes[0]);
        continue;
      }
      const uint8_t* classes = job.prune ? candidates[b].classes : job.classes.data();
      const int num_classes = job.prune ? candidates[b].count : static_cast<int>(job.classes.size());
      const float* weights = job.block_weights.data() + job.weight_begin[first + b];
      for (int row = 0; row < y.count; row += kRowsAtOnce)
        evaluate(job, y, block, weights, classes, num_classes, y.begin + row, std::min(kRowsAtOnce, y.count - row));
    }
  }
}

}  // namespace

void upsample_argmax_cpu(const LpsUpsampleArgmaxParams& params, const float* logits, const uint8_t* allowed,
                         uint8_t* labels) {
  Job job{params, logits, labels, {}, {}, {}, {}, {}, {}, false};
  if (params.out_height == 0 || params.out_width == 0) return;
  for (int c = 0; c < params.num_classes; ++c)
    if (allowed == nullptr || allowed[c]) job.classes.push_back(static_cast<uint8_t>(c));
  job.y = make_axis(params.in_height, params.out_height, params.scale_y);
  job.x = make_axis(params.in_width, params.out_width, params.scale_x);
  job.blocks = make_blocks(job.x.cells, params.in_width);
  for (const Block& block : job.blocks) {
    job.weight_begin.push_back(job.block_weights.size());
    for (int pixel = 0; pixel < block.most_pixels; ++pixel) {
      for (int i = 0; i < kLanes; ++i) {
        const bool inside = i < block.count && pixel < job.x.cells[block.first + i].count;
        job.block_weights.push_back(inside ? job.x.weights[job.x.cells[block.first + i].begin + pixel] : 0.f);
      }
    }
  }

  const int64_t num_rows = static_cast<int64_t>(job.y.cells.size());
  const int64_t pixels = int64_t{params.out_height} * params.out_width;
  job.prune = pixels >= kPixelsWorthPruning * num_rows * static_cast<int64_t>(job.x.cells.size());
  const int64_t work_per_row = int64_t{params.num_classes} * (params.out_width + 1);
  parallel_for(num_rows, 1 + kWorkPerPiece / work_per_row, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) cell_row(job, job.y.cells[i]);
  });
}

}  // namespace lps
