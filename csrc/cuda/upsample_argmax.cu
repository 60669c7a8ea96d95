// A cell is what lies between four neighbouring logits. One warp takes one cell after the other along a row, its lanes
// the classes, whose corners stay in registers:
//   1. bound:    what the best class of the cell reaches at least (core/argmax.h);
//   2. select:   the classes that can reach it. On most cells of a real image it is one;
//   3. evaluate: the pixels of the cell, one a lane, for the selected classes only, by the plain definition.
// With channels last a warp's loads are contiguous, and the logits are read from memory once: the rows of a block
// follow each other, and what two of them read the second finds in the cache. The other layout goes through shared
// memory.
#include "cuda/upsample_argmax.h"

#include "core/argmax.h"
#include "core/logits.h"
#include "core/pixel.h"
#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kWarps = 8;
constexpr int kMaxColumns = 32;         // cells of a row that a block takes at most
constexpr int kMaxRows = 8;             // and rows
constexpr int kStagedBytes = 40 << 10;  // of shared memory, at most
constexpr unsigned kAllLanes = 0xffffffffu;

// The cells of a block: `columns` x `rows` of them, from a first one on; each warp takes `walk` of a row.
struct Tiling {
  int columns, rows, walk;
};

// Logits as they lie in global memory, channels last.
template <typename T>
struct InPlace {
  Logits<T, true> logits;

  __device__ const T* pixel(int row, int column) const {
    return logits.data + (static_cast<int64_t>(row) * logits.width + column) * logits.num_classes;
  }
};

// Those that a block has copied to shared memory, from a first pixel on.
template <typename T>
struct Staged {
  const T* tile;
  int first_row, first_column, columns, pitch;

  __device__ const T* pixel(int row, int column) const {
    return tile + ((row - first_row) * columns + column - first_column) * pitch;
  }
};

// The first output pixel that reads from logit `low` of an axis on, or from one after it.
__device__ int first_pixel(int low, int in_size, int out_size, float scale) {
  int begin = 0, end = out_size;
  while (begin < end) {
    const int middle = begin + (end - begin) / 2;
    if (linear_tap(pixel_centre(middle, scale), in_size).low < low)
      begin = middle + 1;
    else
      end = middle;
  }
  return begin;
}

__device__ float least(float a, float b) { return a < b ? a : b; }
__device__ float most(float a, float b) { return a > b ? a : b; }
// As integers: infinity and NaN are above all numbers.
__device__ uint32_t magnitude(float value) { return float_to_bits(value) & 0x7fffffffu; }

// Of two logits, one above the other.
struct Pair {
  float smaller, larger;
  uint32_t magnitude;
};

template <typename T>
__device__ Pair pair_of(T top, T bottom) {
  const float a = widen(top), b = widen(bottom);
  const uint32_t m = magnitude(a), n = magnitude(b);
  return {least(a, b), most(a, b), m > n ? m : n};
}

// Evaluates the pixels x0 .. x1 - 1, y0 .. y1 - 1 of a cell for the classes of a set, ascending.
template <typename T>
__device__ void evaluate(const LpsUpsampleArgmaxParams& p, const T* const (&corners)[4], const uint32_t* classes,
                         int num_words, int x0, int x1, int y0, int y1, uint8_t* labels) {
  const int columns = x1 - x0, count = columns * (y1 - y0);
  for (int i = threadIdx.x; i < count; i += warpSize) {
    const int x = x0 + i % columns, y = y0 + i / columns;
    const float weight_x = linear_tap(pixel_centre(x, p.scale_x), p.in_width).weight;
    const float weight_y = linear_tap(pixel_centre(y, p.scale_y), p.in_height).weight;
    float best = kWorstValue;
    uint8_t label = kVoid;
    for (int k = 0; k < num_words; ++k) {
      for (uint32_t rest = classes[k]; rest != 0; rest &= rest - 1) {
        const int cls = 32 * k + __ffs(static_cast<int>(rest)) - 1;
        const float above = lerp(widen(corners[0][cls]), widen(corners[1][cls]), weight_x);
        const float below = lerp(widen(corners[2][cls]), widen(corners[3][cls]), weight_x);
        const float value = lerp(above, below, weight_y);
        if (beats(value, best)) best = value, label = static_cast<uint8_t>(cls);
      }
    }
    labels[static_cast<int64_t>(y) * p.out_width + x] = label;
  }
}

// One warp: the cells begin .. end - 1 of a row. `first_x` are the first pixels of the cells from `begin` on.
template <int kWords, typename T, typename Source>
__device__ void walk_row(const LpsUpsampleArgmaxParams& p, const Source& source, int row, int begin, int end,
                         const int* first_x, int y0, int y1, uint32_t allowed, uint8_t* labels) {
  const int lane = threadIdx.x, below = row + 1 < p.in_height ? row + 1 : row;
  Pair left[kWords], right[kWords];
  const auto load = [&](int column, Pair* pairs) {
    const T *top = source.pixel(row, column), *bottom = source.pixel(below, column);
#pragma unroll
    for (int k = 0; k < kWords; ++k)
      pairs[k] =
          allowed >> k & 1u ? pair_of(top[32 * k + lane], bottom[32 * k + lane]) : Pair{kWorstValue, kWorstValue, 0};
  };
  load(begin, right);
  for (int column = begin; column < end; ++column) {
#pragma unroll
    for (int k = 0; k < kWords; ++k) left[k] = right[k];
    const int next = column + 1 < p.in_width ? column + 1 : column;
    load(next, right);
    const int x0 = first_x[column - begin], x1 = first_x[column - begin + 1];
    if (x0 >= x1) continue;

    // The margin of a class is that of its own magnitude: it is what its own values are blurred by.
    float reached = kWorstValue, highest[kWords];
    bool bounded = true;
#pragma unroll
    for (int k = 0; k < kWords; ++k) {
      const uint32_t m = left[k].magnitude > right[k].magnitude ? left[k].magnitude : right[k].magnitude;
      bounded &= m < magnitude(kLargestBounded);
      const float margin = rounding_margin(bits_to_float(m));
      reached = most(least(left[k].smaller, right[k].smaller) - margin, reached);
      highest[k] = most(left[k].larger, right[k].larger) + margin;
    }
    for (int lanes = 16; lanes > 0; lanes /= 2) reached = most(__shfl_xor_sync(kAllLanes, reached, lanes), reached);
    bounded = __all_sync(kAllLanes, bounded);

    uint32_t classes[kWords];
    int count = 0, single = 0;
#pragma unroll
    for (int k = 0; k < kWords; ++k) {
      classes[k] = __ballot_sync(kAllLanes, allowed >> k & 1u && (!bounded || highest[k] >= reached));
      count += __popc(classes[k]);
      if (classes[k] != 0) single = 32 * k + __ffs(static_cast<int>(classes[k])) - 1;
    }
    if (bounded && count == 1) {
      for (int i = lane; i < (x1 - x0) * (y1 - y0); i += warpSize)
        labels[static_cast<int64_t>(y0 + i / (x1 - x0)) * p.out_width + x0 + i % (x1 - x0)] =
            static_cast<uint8_t>(single);
    } else {
      const T* const corners[4] = {source.pixel(row, column), source.pixel(row, next), source.pixel(below, column),
                                   source.pixel(below, next)};
      evaluate(p, corners, classes, kWords, x0, x1, y0, y1, labels);
    }
  }
}

template <int kWords, typename T, bool kChannelsLast>
__global__ void __launch_bounds__(32 * kWarps, 2)
    argmax_cells(LpsUpsampleArgmaxParams p, Logits<T, kChannelsLast> logits, Tiling tiling,
                 const uint8_t* allowed_classes, uint8_t* labels) {
  const int blocks_across = (p.in_width + tiling.columns - 1) / tiling.columns;
  const int first_column = static_cast<int>(blockIdx.x) % blocks_across * tiling.columns;
  const int first_row = static_cast<int>(blockIdx.x) / blocks_across * tiling.rows;
  const int thread = threadIdx.y * warpSize + threadIdx.x;
  __shared__ int first_x[kMaxColumns + 1], first_y[kMaxRows + 1];
  if (thread <= tiling.columns)
    first_x[thread] = first_pixel(first_column + thread, p.in_width, p.out_width, p.scale_x);
  const int r = thread - 2 * kMaxColumns;
  if (r >= 0 && r <= tiling.rows) first_y[r] = first_pixel(first_row + r, p.in_height, p.out_height, p.scale_y);

  T* tile = dynamic_shared<T>();
  const int pitch = p.num_classes | 1, staged_columns = tiling.columns + 1;
  if constexpr (!kChannelsLast) {
    // One warp for the columns of a row of a class.
    for (int i = threadIdx.y; i < p.num_classes * (tiling.rows + 1); i += kWarps) {
      const int row = i % (tiling.rows + 1), cls = i / (tiling.rows + 1);
      if (first_row + row >= p.in_height) continue;
      const T* from = logits.data + (static_cast<int64_t>(cls) * p.in_height + first_row + row) * p.in_width;
      for (int j = threadIdx.x; j < staged_columns && first_column + j < p.in_width; j += warpSize)
        tile[(row * staged_columns + j) * pitch + cls] = from[first_column + j];
    }
  }
  __syncthreads();

  uint32_t allowed = 0;  // bit k: class 32 * k + lane
  for (int k = 0; k < kWords; ++k) {
    const int cls = 32 * k + threadIdx.x;
    if (cls < p.num_classes && (!allowed_classes || allowed_classes[cls])) allowed |= 1u << k;
  }
  const int walks = tiling.columns / tiling.walk;
  for (int i = threadIdx.y; i < walks * tiling.rows; i += kWarps) {
    const int row = i % tiling.rows, from = i / tiling.rows * tiling.walk, begin = first_column + from;
    const int end = begin + tiling.walk < p.in_width ? begin + tiling.walk : p.in_width;
    const int y0 = first_y[row], y1 = first_y[row + 1];
    if (first_row + row >= p.in_height || begin >= end || y0 >= y1) continue;
    if constexpr (kChannelsLast)
      walk_row<kWords, T>(p, InPlace<T>{logits}, first_row + row, begin, end, first_x + from, y0, y1, allowed, labels);
    else
      walk_row<kWords, T>(p, Staged<T>{tile, first_row, first_column, staged_columns, pitch}, first_row + row, begin,
                          end, first_x + from, y0, y1, allowed, labels);
  }
}

template <int kWords, typename T, bool kChannelsLast>
void launch_cells(const LpsUpsampleArgmaxParams& p, cudaStream_t stream, const Logits<T, kChannelsLast>& logits,
                  const uint8_t* allowed, uint8_t* labels) {
  Tiling tiling{8, kMaxRows, 8};
  size_t bytes = 0;
  if (!kChannelsLast) {
    const auto staged_bytes = [&](int columns) { return sizeof(T) * 2 * (columns + 1) * (p.num_classes | 1); };
    const int columns = staged_bytes(kMaxColumns) <= kStagedBytes ? kMaxColumns : kMaxColumns / 2;
    tiling = {columns, 1, columns / kWarps};
    bytes = staged_bytes(columns);
  }
  const unsigned blocks = blocks_for(p.in_width, tiling.columns) * blocks_for(p.in_height, tiling.rows);
  launch(stream, blocks, dim3(32, kWarps), bytes, argmax_cells<kWords, T, kChannelsLast>, p, logits, tiling, allowed,
         labels);
}

}  // namespace

void upsample_argmax_cuda(const LpsUpsampleArgmaxParams& p, const LpsContext& context, const void* data,
                          const uint8_t* allowed, uint8_t* labels) {
  const auto stream = static_cast<cudaStream_t>(context.stream);
  with_logits(format_of(p), data, [&](auto logits) {
    // Words of 32 classes: those of COCO, and the most there can be.
    if (p.num_classes <= 160)
      launch_cells<5>(p, stream, logits, allowed, labels);
    else
      launch_cells<8>(p, stream, logits, allowed, labels);
  });
}

}  // namespace lps
