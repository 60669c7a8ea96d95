// An implicit matrix product on tensor cores: samples [positions, taps * channels] by weights, of which only the
// weights pass through shared memory.
//
// A warp makes 32 positions x 128 output channels, so that each sample is gathered once for 128 of them, and its lanes
// gather straight into the registers that the tensor cores read: the order of the channels in a sum is free, so a lane
// takes 8 neighbouring channels, 16 bytes, of each of its positions, and the same 8 of the weights, where the
// instruction counts 2 + 2 + 2 + 2. The samples thus never meet shared memory, whose bandwidth is the limit here.
//
// The sum runs over slices of 32 channels and, within one, over the taps: what the corners of neighbouring taps and
// positions share is still in the L1 cache then. The four warps' positions form a tile of 16 x 8 for the same reason.
// Addresses and weights of a sample are computed once, into shared memory, for all channels. While the tensor cores
// take one slice, the pixels of the next are on their way to registers and its weights to shared memory.
#include "cuda/deform_conv2d.h"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

namespace lps {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * 32;
constexpr int kTileWidth = 16, kTileHeight = 8, kPositions = kTileWidth * kTileHeight;
static_assert(kPositions == kThreads);  // of a warp: two rows of the tile
constexpr int kOutputs = 128, kSlice = 32;
constexpr int kVectors = kSlice / 8;  // of 16 bytes, in a slice of a row
constexpr int kTapsAtOnce = 9;        // more take turns

// Of a warp: products of 16 positions x 8 outputs. A lane has two positions in each of the former.
constexpr int kRowTiles = 2, kOutputTiles = kOutputs / 8, kLaneRows = 2 * kRowTiles;
static_assert(kOutputTiles == 4 * kLaneRows);  // four with each row of the next slice

// The rest of a DeformTap. Addresses are 32-bit counts of 16 bytes: a lane makes 16 of them for each slice, and it is
// the number of instructions beside those of the tensor cores that limits the loop.
struct alignas(8) Corners {
  int32_t vector;  // of corner 0, channel 0
  uint32_t live;
};

struct Shared {
  uint4 weights[2][kOutputs][kVectors];
  float4 corner_weights[kTapsAtOnce][kPositions];  // as in DeformTap
  Corners corners[kTapsAtOnce][kPositions];
};
static_assert(sizeof(Shared) <= 48 << 10);  // what a launch gets without asking; two blocks fit anywhere but on sm_75

// Where a slice of the sum lies. `tap` counts from `first_tap`, the first one in shared memory.
struct Slice {
  int group, first_tap, tap, channel;
};

template <typename T>
struct Problem {
  DeformConv2d conv;
  const T *input, *weight;
  const float* bias;
  T* out;
  int num_taps, group_channels;          // as in conv, where each call would compute them again
  int pixel_vectors, image_row_vectors;  // of the input
  int64_t weight_row;                    // numbers in a row of weights

  __device__ int taps_at_once(const Slice& slice) const {
    const int left = num_taps - slice.first_tap;
    return left < kTapsAtOnce ? left : kTapsAtOnce;
  }
  __device__ Slice after(Slice slice) const {
    if (++slice.tap < taps_at_once(slice)) return slice;
    slice.tap = 0;
    if ((slice.channel += kSlice) < group_channels) return slice;
    slice.channel = 0;
    if ((slice.first_tap += kTapsAtOnce) < num_taps) return slice;
    slice.first_tap = 0;
    ++slice.group;
    return slice;
  }
};

// The block's tile and outputs.
struct Tile {
  int n, row, column, output;  // the first ones

  // Of a position of the tile.
  __device__ int row_of(int position) const { return row + position / kTileWidth; }
  __device__ int column_of(int position) const { return column + position % kTileWidth; }
};

__host__ __device__ inline unsigned tiles_of(int size, int tile) {
  return (static_cast<unsigned>(size) + tile - 1) / tile;
}

__device__ inline Tile tile_of_block(const LpsDeformConv2dParams& p) {
  const unsigned columns = tiles_of(p.out_width, kTileWidth), rows = tiles_of(p.out_height, kTileHeight);
  const unsigned line = blockIdx.x / columns;
  return {static_cast<int>(line / rows), static_cast<int>(line % rows) * kTileHeight,
          static_cast<int>(blockIdx.x % columns) * kTileWidth, static_cast<int>(blockIdx.y) * kOutputs};
}

__device__ inline int lane_of_thread() { return static_cast<int>(threadIdx.x % 32); }
// Of the lane's rows of products, in the tile.
__device__ inline int position_of_row(int row) {
  return static_cast<int>(threadIdx.x / 32 * 32) + row * 8 + lane_of_thread() / 4;
}

// The first of the 8 channels that the lane takes, in the group.
__device__ inline int channel_of_lane(const Slice& slice) { return slice.channel + lane_of_thread() % 4 * 8; }

// A warp finds the taps of its own positions: no other one waits for them.
template <typename T>
__device__ void find_taps(const Problem<T>& problem, const Tile& tile, const Slice& slice, Shared& shared) {
  const LpsDeformConv2dParams& p = problem.conv.params;
  const int row = tile.row_of(static_cast<int>(threadIdx.x)), column = tile.column_of(static_cast<int>(threadIdx.x));
  int tap_y = slice.first_tap / p.kernel_w, tap_x = slice.first_tap % p.kernel_w;
  __syncwarp();
#pragma unroll 1
  for (int i = 0; i < problem.taps_at_once(slice); ++i) {
    DeformTap tap{};
    if (row < p.out_height && column < p.out_width)
      tap = problem.conv.tap(tile.n, slice.group, tap_y, tap_x, row, column);
    shared.corner_weights[i][threadIdx.x] = {tap.weight[0], tap.weight[1], tap.weight[2], tap.weight[3]};
    shared.corners[i][threadIdx.x] = {tap.pixel * problem.pixel_vectors, tap.live};
    if (++tap_x == p.kernel_w) {
      tap_x = 0;
      ++tap_y;
    }
  }
  __syncwarp();
}

// 16 bytes each of rows that lie kRowsAtOnce apart.
constexpr int kRowsAtOnce = kThreads / kVectors;

template <typename T>
__device__ void copy_weights(const Problem<T>& problem, const Slice& slice, uint4 (&weights)[kOutputs][kVectors]) {
  const int vector = static_cast<int>(threadIdx.x % kVectors), first_row = static_cast<int>(threadIdx.x / kVectors);
  const int output = static_cast<int>(blockIdx.y) * kOutputs + first_row, channel = slice.channel + vector * 8;
  const int left = channel < problem.group_channels ? problem.conv.params.out_channels - output : 0;
  const int64_t begin = static_cast<int64_t>(slice.first_tap + slice.tap) * problem.conv.params.channels +
                        slice.group * problem.group_channels + channel;
  const T* from = problem.weight + output * problem.weight_row + begin;
#pragma unroll
  for (int i = 0; i < kOutputs / kRowsAtOnce; ++i, from += kRowsAtOnce * problem.weight_row)
    copy_16_bytes(&weights[first_row + i * kRowsAtOnce][vector], from, i * kRowsAtOnce < left);
}

// The corners of one of a lane's rows, 8 channels each.
template <typename T>
__device__ void load_corners(const Problem<T>& problem, const Slice& slice, int row, const Shared& shared,
                             uint4 (&corner)[4]) {
  const int channel = channel_of_lane(slice);
  const uint4* input = reinterpret_cast<const uint4*>(problem.input + slice.group * problem.group_channels + channel);
  const Corners corners = shared.corners[slice.tap][position_of_row(row)];
  const uint32_t live = channel < problem.group_channels ? corners.live : 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int vector = corners.vector + (i & 1 ? problem.pixel_vectors : 0) + (i & 2 ? problem.image_row_vectors : 0);
    corner[i] = live >> i & 1u ? __ldg(input + vector) : uint4{0, 0, 0, 0};
  }
}

template <typename T>
__device__ uint32_t blend_pair(const float (&weight)[4], uint32_t v0, uint32_t v1, uint32_t v2, uint32_t v3) {
  const float2 f0 = widen_pair(v0, T{}), f1 = widen_pair(v1, T{}), f2 = widen_pair(v2, T{}), f3 = widen_pair(v3, T{});
  return narrow_pair(deform_blend_contracted(weight, f0.x, f1.x, f2.x, f3.x),
                     deform_blend_contracted(weight, f0.y, f1.y, f2.y, f3.y), T{});
}

template <typename T>
__device__ uint4 blend_corners(const Problem<T>& problem, const Slice& slice, int row, const Shared& shared,
                               const uint4 (&v)[4]) {
  const float4 w = shared.corner_weights[slice.tap][position_of_row(row)];
  // Beyond the group's channels an infinite mask must not make NaN of zeros. No branch, so that the tensor cores and
  // this overlap.
  const bool exists = channel_of_lane(slice) < problem.group_channels;
  const float weight[4] = {exists ? w.x : 0.f, exists ? w.y : 0.f, exists ? w.z : 0.f, exists ? w.w : 0.f};
  return {blend_pair<T>(weight, v[0].x, v[1].x, v[2].x, v[3].x), blend_pair<T>(weight, v[0].y, v[1].y, v[2].y, v[3].y),
          blend_pair<T>(weight, v[0].z, v[1].z, v[2].z, v[3].z), blend_pair<T>(weight, v[0].w, v[1].w, v[2].w, v[3].w)};
}

// Column c of the products of tile n is an output such that a lane, which gets columns 2 t and 2 t + 1, gets 8
// neighbours from 4 tiles.
__device__ inline int output_of(int n, int column) { return n / 4 * 32 + column / 2 * 8 + n % 4 * 2 + column % 2; }

// With the outputs of four tiles.
template <typename T>
__device__ void multiply(const uint4 (&weights)[kOutputs][kVectors], const uint4 (&samples)[kLaneRows], int first_tile,
                         float (&sum)[kRowTiles][kOutputTiles][4]) {
  const int lane = lane_of_thread();
  uint4 b[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) b[n] = weights[output_of(first_tile + n, lane / 4)][lane % 4];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const uint4 &upper = samples[2 * m], &lower = samples[2 * m + 1];
      const uint32_t a[4] = {k ? upper.z : upper.x, k ? lower.z : lower.x, k ? upper.w : upper.y,
                             k ? lower.w : lower.y};
#pragma unroll
      for (int n = 0; n < 4; ++n)
        multiply_add(sum[m][first_tile + n], a, k ? b[n].z : b[n].x, k ? b[n].w : b[n].y, T{});
    }
  }
}

template <typename T>
__device__ void store(const Problem<T>& problem, const Tile& tile, const float (&sum)[kRowTiles][kOutputTiles][4]) {
  const LpsDeformConv2dParams& p = problem.conv.params;
  const bool vectors = p.out_channels % 8 == 0 && reinterpret_cast<uintptr_t>(problem.out) % 16 == 0;
  T* image = problem.out + tile.n * problem.conv.image_positions() * p.out_channels;
#pragma unroll
  for (int n = 0; n < kOutputTiles; n += 4) {
    const int output = tile.output + output_of(n, lane_of_thread() % 4 * 2), left = p.out_channels - output;
    if (left <= 0) continue;
    float bias[8] = {};
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (problem.bias && i < left) bias[i] = __ldg(problem.bias + output + i);
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      const int y = tile.row_of(position_of_row(row)), x = tile.column_of(position_of_row(row));
      if (y >= p.out_height || x >= p.out_width) continue;
      uint32_t pair[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float (&two)[4] = sum[row / 2][n + i];
        pair[i] = narrow_pair(two[row % 2 * 2] + bias[2 * i], two[row % 2 * 2 + 1] + bias[2 * i + 1], T{});
      }
      T* out = image + (static_cast<int64_t>(y) * p.out_width + x) * p.out_channels + output;
      if (vectors) {
        *reinterpret_cast<uint4*>(out) = {pair[0], pair[1], pair[2], pair[3]};
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (i < left) out[i] = T{static_cast<uint16_t>(pair[i / 2] >> i % 2 * 16)};
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2) deform_conv2d_mma(Problem<T> problem) {
  Shared& shared = *dynamic_shared<Shared>();
  const Tile tile = tile_of_block(problem.conv.params);
  float sum[kRowTiles][kOutputTiles][4] = {};
  uint4 samples[kLaneRows], next_samples[kLaneRows], corner[4];
  Slice slice{0, 0, 0, 0};
  copy_weights(problem, slice, shared.weights[0]);
  find_taps(problem, tile, slice, shared);
#pragma unroll
  for (int row = 0; row < kLaneRows; ++row) {
    load_corners(problem, slice, row, shared, corner);
    samples[row] = blend_corners(problem, slice, row, shared, corner);
  }
  int stage = 0;
  for (;; stage ^= 1) {
    const Slice next = problem.after(slice);
    wait_for_copies();
    __syncthreads();  // this stage's weights are there, and nobody reads the other's any more
    if (next.group == problem.conv.params.offset_groups) break;
    copy_weights(problem, next, shared.weights[stage ^ 1]);
    if (next.tap == 0 && next.channel == 0) find_taps(problem, tile, next, shared);
    // In four turns: so many pixels are on their way at a time as there are registers for.
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      load_corners(problem, next, row, shared, corner);
      multiply<T>(shared.weights[stage], samples, row * 4, sum);
      next_samples[row] = blend_corners(problem, next, row, shared, corner);
    }
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) samples[row] = next_samples[row];
    slice = next;
  }
#pragma unroll
  for (int first = 0; first < kOutputTiles; first += 4) multiply<T>(shared.weights[stage], samples, first, sum);
  store(problem, tile, sum);
}

}  // namespace

template <typename T>
void deform_conv2d_tensor_cores(const DeformConv2d& conv, void* stream, const T* input, const T* weight,
                                const float* bias, T* out) {
  const LpsDeformConv2dParams& p = conv.params;
  const int64_t tiles =
      static_cast<int64_t>(tiles_of(p.out_height, kTileHeight)) * tiles_of(p.out_width, kTileWidth) * p.batch;
  const dim3 grid(blocks_for(tiles, 1), tiles_of(p.out_channels, kOutputs));
  launch(static_cast<cudaStream_t>(stream), grid, kThreads, sizeof(Shared), deform_conv2d_mma<T>,
         Problem<T>{conv, input, weight, bias, out, conv.num_taps(), conv.group_channels(), p.channels / 8,
                    p.channels / 8 * p.width, static_cast<int64_t>(conv.num_taps()) * p.channels});
}

template void deform_conv2d_tensor_cores(const DeformConv2d&, void*, const Float16*, const Float16*, const float*,
                                         Float16*);
template void deform_conv2d_tensor_cores(const DeformConv2d&, void*, const BFloat16*, const BFloat16*, const float*,
                                         BFloat16*);

}  // namespace lps
