// A cell is what lies between four neighbouring logits. One thread takes one cell:
//   1. bound:    over all classes, what the best class of the cell reaches at least (core/argmax.h);
//   2. select:   the classes that can reach it. On most cells of a real image it is one;
//   3. evaluate: the pixels of the cell for the selected classes only, by the plain definition.
// Neighbouring threads read neighbouring logits, and the second look at them finds them in the cache.
#include "cuda/upsample_argmax.h"

#include "core/argmax.h"
#include "core/bilinear.h"
#include "core/float_bits.h"
#include "core/pixel.h"
#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kBlockWidth = 32, kBlockHeight = 4;
constexpr int kTile = 4;  // output pixels of a cell are evaluated kTile x kTile at a time

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

struct Corners {
  float top_low, top_high, bottom_low, bottom_high;

  __device__ float smallest() const { return least(least(top_low, top_high), least(bottom_low, bottom_high)); }
  __device__ float largest() const { return most(most(top_low, top_high), most(bottom_low, bottom_high)); }
  // As integers: infinity and NaN are above all numbers.
  __device__ uint32_t magnitude() const {
    const uint32_t top = larger(bits(top_low), bits(top_high)), bottom = larger(bits(bottom_low), bits(bottom_high));
    return larger(top, bottom);
  }

  __device__ static float least(float a, float b) { return a < b ? a : b; }
  __device__ static float most(float a, float b) { return a > b ? a : b; }
  __device__ static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }
  __device__ static uint32_t bits(float value) { return float_to_bits(value) & 0x7fffffffu; }
};

// The logits of one image and a cell in them.
struct Cell {
  const float* logits;
  int64_t plane, top_low, top_high, bottom_low, bottom_high;

  __device__ Corners corners(int cls) const {
    const float* map = logits + cls * plane;
    return {map[top_low], map[top_high], map[bottom_low], map[bottom_high]};
  }
};

__global__ void argmax_cells(LpsUpsampleArgmaxParams p, const float* logits, const uint8_t* allowed, uint8_t* labels) {
  const int column = blockIdx.x * kBlockWidth + threadIdx.x, row = blockIdx.y * kBlockHeight + threadIdx.y;
  if (column >= p.in_width || row >= p.in_height) return;
  const int x0 = first_pixel(column, p.in_width, p.out_width, p.scale_x);
  const int x1 = first_pixel(column + 1, p.in_width, p.out_width, p.scale_x);
  const int y0 = first_pixel(row, p.in_height, p.out_height, p.scale_y);
  const int y1 = first_pixel(row + 1, p.in_height, p.out_height, p.scale_y);
  if (x0 >= x1 || y0 >= y1) return;

  const int64_t top = static_cast<int64_t>(row) * p.in_width;
  const int64_t bottom = top + (row + 1 < p.in_height ? p.in_width : 0);
  const int next = column + 1 < p.in_width ? column + 1 : column;
  const Cell cell{
      logits, static_cast<int64_t>(p.in_height) * p.in_width, top + column, top + next, bottom + column, bottom + next};

  float reached = kWorstValue;
  uint32_t magnitude = 0;
  for (int cls = 0; cls < p.num_classes; ++cls) {
    if (allowed && !allowed[cls]) continue;
    const Corners c = cell.corners(cls);
    reached = Corners::most(c.smallest(), reached);
    magnitude = Corners::larger(magnitude, c.magnitude());
  }
  const bool bounded = magnitude < Corners::bits(kLargestBounded);
  reached -= rounding_margin(bits_to_float(magnitude));

  for (int first_y = y0; first_y < y1; first_y += kTile) {
    for (int first_x = x0; first_x < x1; first_x += kTile) {
      float best[kTile][kTile];
      uint8_t label[kTile][kTile];
      for (int i = 0; i < kTile; ++i)
        for (int j = 0; j < kTile; ++j) best[i][j] = kWorstValue, label[i][j] = kVoid;
      for (int cls = 0; cls < p.num_classes; ++cls) {
        if (allowed && !allowed[cls]) continue;
        const Corners c = cell.corners(cls);
        if (bounded && !(c.largest() >= reached)) continue;
        for (int j = 0; j < kTile; ++j) {
          const float weight_x = linear_tap(pixel_centre(first_x + j, p.scale_x), p.in_width).weight;
          const float above = lerp(c.top_low, c.top_high, weight_x),
                      below = lerp(c.bottom_low, c.bottom_high, weight_x);
          for (int i = 0; i < kTile; ++i) {
            const float weight_y = linear_tap(pixel_centre(first_y + i, p.scale_y), p.in_height).weight;
            const float value = lerp(above, below, weight_y);
            if (beats(value, best[i][j])) best[i][j] = value, label[i][j] = static_cast<uint8_t>(cls);
          }
        }
      }
      for (int i = 0; i < kTile && first_y + i < y1; ++i)
        for (int j = 0; j < kTile && first_x + j < x1; ++j)
          labels[static_cast<int64_t>(first_y + i) * p.out_width + first_x + j] = label[i][j];
    }
  }
}

}  // namespace

void upsample_argmax_cuda(const LpsUpsampleArgmaxParams& p, const LpsContext& context, const float* logits,
                          const uint8_t* allowed, uint8_t* labels) {
  const dim3 grid(blocks_for(p.in_width, kBlockWidth), blocks_for(p.in_height, kBlockHeight));
  launch(static_cast<cudaStream_t>(context.stream), grid, dim3(kBlockWidth, kBlockHeight), 0, argmax_cells, p, logits,
         allowed, labels);
}

}  // namespace lps
