// Every location appends its candidates to its level's list; the best of each list are selected by radix and put in
// order by counting how many are better. Sizes on the device stay on the device.
#include "cuda/decode.h"

#include <cmath>

#include "api/workspace.h"
#include "core/decode.h"
#include "core/logits.h"
#include "core/order.h"
#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kPoints = 32;  // locations of a block, one for each lane of a warp
constexpr int kPitch = 257;  // of the most classes there can be; odd, so that a column meets all banks
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kSelectThreads = 1024;
constexpr int kRadixBits = 8, kBins = 1 << kRadixBits;
constexpr int kRankThreads = 256;

// What every kernel is told.
struct Levels {
  const float* ltrb[LPS_MAX_LEVELS];
  const float* borderness[LPS_MAX_LEVELS];
  int64_t capacity[LPS_MAX_LEVELS];  // of the list of candidates
  uint64_t* candidates[LPS_MAX_LEVELS];
  uint64_t* best[LPS_MAX_LEVELS];       // [topk], in any order
  int first_block[LPS_MAX_LEVELS + 1];  // of `find_candidates`
  unsigned* found;                      // [level] candidates
};

// The probabilities of a location add up to 1, so few classes of it are above the threshold.
int64_t most_candidates(const LpsDecodeParams& p, int level) {
  int64_t classes = p.num_classes;
  if (p.score_threshold > 0.f) {
    const double above = 1.0 / p.score_threshold + 1;
    if (above < static_cast<double>(classes)) classes = static_cast<int64_t>(above);
  }
  return classes * p.levels.height[level] * p.levels.width[level];
}

struct Workspace {
  Levels levels{};
  size_t size;

  Workspace(const LpsDecodeParams& p, void* base) {
    Carver carver(base);
    levels.found = carver.take<unsigned>(LPS_MAX_LEVELS);
    for (int l = 0; l < p.levels.num_levels; ++l) {
      levels.capacity[l] = most_candidates(p, l);
      levels.candidates[l] = carver.take<uint64_t>(levels.capacity[l]);
      levels.best[l] = carver.take<uint64_t>(p.topk);
    }
    size = carver.size();
  }
};

__device__ unsigned best_count(const Levels& levels, int level, int topk) {
  const unsigned found = levels.found[level];
  return found < static_cast<unsigned>(topk) ? found : static_cast<unsigned>(topk);
}

__device__ Box ltrb_at(const LpsDecodeParams& p, const Levels& levels, int level, int64_t location) {
  const int64_t plane = static_cast<int64_t>(p.levels.height[level]) * p.levels.width[level];
  const float* at = levels.ltrb[level] + location;
  return {at[0], at[plane], at[2 * plane], at[3 * plane]};
}

// Where a location reads the logits.
struct Point {
  LinearTap row, column;
  int level;  // -1: none
  int64_t location;
};

// The location number `index` of those of a level, or none where it lies outside the image.
__device__ Point point_at(const LpsDecodeParams& p, int level, int64_t index) {
  Point point{{0, 0, 0.f}, {0, 0, 0.f}, -1, index};
  const int width = p.levels.width[level], stride = p.levels.stride[level];
  if (index >= static_cast<int64_t>(p.levels.height[level]) * width) return point;
  const float x = point_of(static_cast<int>(index % width), stride);
  const float y = point_of(static_cast<int>(index / width), stride);
  if (!(x < p.image_width && y < p.image_height)) return point;
  point.column = linear_tap(x / p.logits_stride, p.logits_width);
  point.row = linear_tap(y / p.logits_stride, p.logits_height);
  point.level = level;
  return point;
}

// One block for kPoints neighbouring locations of a level. Their logits are read along what is contiguous, the classes
// or the locations, into shared memory; then a thread looks after a location, which adds up its exponentials in the
// order of the classes as the CPU does.
template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kThreads) find_candidates(LpsDecodeParams p, Levels levels, float log_threshold,
                                                            Logits<T, kChannelsLast> logits, const uint8_t* is_thing) {
  __shared__ Point points[kPoints];
  __shared__ float values[kPoints * kPitch];
  __shared__ float largest[kPoints], sum[kPoints];
  const int thread = threadIdx.x, lane = thread % warpSize, warp = thread / warpSize;
  int level = 0;
  while (level + 1 < p.levels.num_levels && static_cast<int>(blockIdx.x) >= levels.first_block[level + 1]) ++level;
  if (thread < kPoints)
    points[thread] =
        point_at(p, level, (static_cast<int64_t>(blockIdx.x) - levels.first_block[level]) * kPoints + thread);
  __syncthreads();

  if constexpr (kChannelsLast) {
    for (int i = warp; i < kPoints; i += kWarps)
      for (int c = lane; points[i].level >= 0 && c < p.num_classes; c += warpSize)
        values[i * kPitch + c] = logits.bilinear(c, points[i].row, points[i].column);
  } else {
    const Point point = points[lane];
    for (int c = warp; point.level >= 0 && c < p.num_classes; c += kWarps)
      values[lane * kPitch + c] = logits.bilinear(c, point.row, point.column);
  }
  __syncthreads();

  if (thread < kPoints && points[thread].level >= 0) {
    const float* row = values + thread * kPitch;
    float most = -__builtin_huge_valf();
    for (int c = 0; c < p.num_classes; ++c) most = row[c] > most ? row[c] : most;
    float total = 0.f;
    for (int c = 0; c < p.num_classes; ++c) total += exp_of_nonpositive(row[c] - most);
    largest[thread] = most;
    sum[thread] = total;
  }
  __syncthreads();

  const unsigned below = (1u << lane) - 1;
  for (int i = warp; i < kPoints; i += kWarps) {
    if (points[i].level < 0) continue;
    const int64_t location = points[i].location;
    const float lowest = lowest_logit(largest[i], log_threshold);
    for (int first = 0; first < p.num_classes; first += warpSize) {
      const int c = first + lane;
      float score = 0.f;
      bool passes = c < p.num_classes && is_thing[c] && values[i * kPitch + c] >= lowest;
      if (passes) {
        const float probability = probability_of(values[i * kPitch + c], largest[i], sum[i]);
        score = fused_score(probability, levels.borderness[level][location], p.score_fusion == LPS_SCORE_SQRT);
        passes = probability > p.score_threshold && is_finite(score) && is_finite(ltrb_at(p, levels, level, location));
      }
      const unsigned votes = __ballot_sync(kAllLanes, passes);
      if (votes == 0) continue;
      unsigned place = lane == 0 ? atomicAdd(levels.found + level, static_cast<unsigned>(__popc(votes))) : 0u;
      place = __shfl_sync(kAllLanes, place, 0) + __popc(votes & below);
      if (passes)
        levels.candidates[level][place] = descending_key(score, static_cast<uint32_t>(location * p.num_classes + c));
    }
  }
}

// One warp: the digit in which the key of rank `wanted` falls, by a sum over the bins, and its rank among those.
__device__ void find_digit(const unsigned* bins, unsigned wanted, uint64_t prefix, int shift, uint64_t* new_prefix,
                           unsigned* new_wanted) {
  constexpr int kBinsPerLane = kBins / 32;
  const int lane = threadIdx.x;
  unsigned mine = 0;
  for (int k = 0; k < kBinsPerLane; ++k) mine += bins[lane * kBinsPerLane + k];
  unsigned up_to = mine;
  for (int lanes = 1; lanes < warpSize; lanes *= 2) {
    const unsigned other = __shfl_up_sync(kAllLanes, up_to, lanes);
    if (lane >= lanes) up_to += other;
  }
  unsigned before = up_to - mine;
  if (!(before < wanted && wanted <= up_to)) return;
  int digit = lane * kBinsPerLane;
  for (; before + bins[digit] < wanted; ++digit) before += bins[digit];
  *new_prefix = prefix | uint64_t{static_cast<unsigned>(digit)} << shift;
  *new_wanted = wanted - before;
}

// One block for a level: the keys of its best candidates, in any order. Keys differ, so exactly topk are at most the
// topk-th, which is found digit by digit from the highest.
__global__ void select_best(LpsDecodeParams p, Levels levels) {
  const int level = blockIdx.x;
  const uint64_t* keys = levels.candidates[level];
  const unsigned count = levels.found[level], topk = static_cast<unsigned>(p.topk);
  uint64_t* best = levels.best[level];
  __shared__ unsigned bins[kBins];
  __shared__ uint64_t shared_prefix;
  __shared__ unsigned shared_wanted, written;
  if (count <= topk) {
    for (unsigned i = threadIdx.x; i < count; i += kSelectThreads) best[i] = keys[i];
    return;
  }
  if (topk == 0) return;
  uint64_t prefix = 0;     // the digits of the topk-th key that are known
  unsigned wanted = topk;  // its rank among the keys with these digits
  for (int shift = 64 - kRadixBits; shift >= 0; shift -= kRadixBits) {
    for (int b = threadIdx.x; b < kBins; b += kSelectThreads) bins[b] = 0;
    __syncthreads();
    // All digits above this one; a shift by 64 is not defined.
    const uint64_t above = shift + kRadixBits == 64 ? 0 : ~uint64_t{0} << (shift + kRadixBits);
    for (unsigned i = threadIdx.x; i < count; i += kSelectThreads)
      if (((keys[i] ^ prefix) & above) == 0) atomicAdd(bins + (keys[i] >> shift & (kBins - 1)), 1u);
    __syncthreads();
    if (threadIdx.x < warpSize) find_digit(bins, wanted, prefix, shift, &shared_prefix, &shared_wanted);
    __syncthreads();
    prefix = shared_prefix;
    wanted = shared_wanted;
  }
  if (threadIdx.x == 0) written = 0;
  __syncthreads();
  for (unsigned i = threadIdx.x; i < count; i += kSelectThreads)
    if (keys[i] <= prefix) best[atomicAdd(&written, 1u)] = keys[i];
}

// Slot `i` of the output, if it exists and no box comes to it.
__device__ void write_padding(const LpsDecodeParams& p, const Levels& levels, int64_t i, bool exists, Box* boxes,
                              float* scores, int32_t* labels, int32_t* box_levels, int32_t* num_boxes) {
  int64_t count = 0;
  for (int l = 0; l < p.levels.num_levels; ++l) count += best_count(levels, l, p.topk);
  if (i == 0) *num_boxes = static_cast<int32_t>(count);
  if (!exists || i < count) return;
  boxes[i] = {0.f, 0.f, 0.f, 0.f};
  scores[i] = 0.f;
  labels[i] = -1;
  box_levels[i] = -1;
}

// One thread for a key, a row of blocks for a level: its place is how many of its level come before it.
__global__ void write_boxes(LpsDecodeParams p, Levels levels, Box* boxes, float* scores, int32_t* labels,
                            int32_t* box_levels, int32_t* num_boxes) {
  const int level = blockIdx.y;
  const unsigned count = best_count(levels, level, p.topk);
  const unsigned i = blockIdx.x * kRankThreads + threadIdx.x;
  write_padding(p, levels, static_cast<int64_t>(level) * p.topk + i, i < static_cast<unsigned>(p.topk), boxes, scores,
                labels, box_levels, num_boxes);
  if (blockIdx.x * kRankThreads >= count) return;
  const uint64_t key = i < count ? levels.best[level][i] : 0;
  __shared__ uint64_t tile[kRankThreads];
  unsigned rank = 0;
  for (unsigned first = 0; first < count; first += kRankThreads) {
    if (first + threadIdx.x < count) tile[threadIdx.x] = levels.best[level][first + threadIdx.x];
    __syncthreads();
    const unsigned size = count - first < kRankThreads ? count - first : kRankThreads;
    for (unsigned j = 0; j < size; ++j) rank += tile[j] < key;
    __syncthreads();
  }
  if (i >= count) return;
  int64_t place = rank;
  for (int l = 0; l < level; ++l) place += best_count(levels, l, p.topk);
  const uint32_t location = index_of(key) / p.num_classes;
  const int width = p.levels.width[level], stride = p.levels.stride[level];
  const float x = point_of(static_cast<int>(location % width), stride);
  const float y = point_of(static_cast<int>(location / width), stride);
  boxes[place] = box_around(x, y, ltrb_at(p, levels, level, location), static_cast<float>(p.image_width),
                            static_cast<float>(p.image_height));
  scores[place] = score_of(key);
  labels[place] = static_cast<int32_t>(index_of(key) % p.num_classes);
  box_levels[place] = level;
}

template <typename T, bool kChannelsLast>
void find(const LpsDecodeParams& p, const Levels& levels, float log_threshold, const Logits<T, kChannelsLast>& logits,
          const uint8_t* is_thing, cudaStream_t stream) {
  launch(stream, static_cast<unsigned>(levels.first_block[p.levels.num_levels]), kThreads, 0,
         find_candidates<T, kChannelsLast>, p, levels, log_threshold, logits, is_thing);
}

}  // namespace

size_t decode_cuda_workspace(const LpsDecodeParams& params) { return Workspace(params, nullptr).size; }

void decode_cuda(const LpsDecodeParams& p, const LpsContext& context, const void* data, const uint8_t* is_thing,
                 const float* const* ltrb, const float* const* borderness, float* boxes, float* scores, int32_t* labels,
                 int32_t* box_levels, int32_t* num_boxes) {
  const auto stream = static_cast<cudaStream_t>(context.stream);
  Workspace w(p, context.workspace);
  const int num_levels = p.levels.num_levels;
  const float log_threshold = std::log(p.score_threshold);
  check_cuda(cudaMemsetAsync(w.levels.found, 0, LPS_MAX_LEVELS * sizeof(unsigned), stream), "decode");
  for (int l = 0; l < num_levels; ++l) {
    const int64_t locations = static_cast<int64_t>(p.levels.height[l]) * p.levels.width[l];
    w.levels.ltrb[l] = ltrb[l];
    w.levels.borderness[l] = borderness[l];
    w.levels.first_block[l + 1] = w.levels.first_block[l] + static_cast<int>(blocks_for(locations, kPoints));
  }
  with_logits(format_of(p), data, [&](auto logits) { find(p, w.levels, log_threshold, logits, is_thing, stream); });
  launch(stream, static_cast<unsigned>(num_levels), kSelectThreads, 0, select_best, p, w.levels);
  const dim3 ranks(blocks_for(p.topk, kRankThreads), static_cast<unsigned>(num_levels));
  launch(stream, ranks, kRankThreads, 0, write_boxes, p, w.levels, reinterpret_cast<Box*>(boxes), scores, labels,
         box_levels, num_boxes);
}

}  // namespace lps
