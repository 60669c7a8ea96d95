// Every location appends its candidates to its level's list; the best of each list are selected by radix and put in
// order by counting how many are better. Sizes on the device stay on the device.
#include "cuda/decode.h"

#include <cmath>

#include "api/workspace.h"
#include "core/decode.h"
#include "core/order.h"
#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 128;
constexpr int kSelectThreads = 1024;
constexpr int kRadixBits = 8, kBins = 1 << kRadixBits;
constexpr int kRankThreads = 256;

// What every kernel is told.
struct Levels {
  const float* ltrb[LPS_MAX_LEVELS];
  const float* borderness[LPS_MAX_LEVELS];
  int64_t capacity[LPS_MAX_LEVELS];  // of the list of candidates
  uint64_t* candidates[LPS_MAX_LEVELS];
  uint64_t* best[LPS_MAX_LEVELS];  // [topk], in any order
  unsigned* found;                 // [level] candidates
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

// One thread for a location.
__global__ void find_candidates(LpsDecodeParams p, Levels levels, int level, float log_threshold, const float* logits,
                                const uint8_t* is_thing) {
  const int width = p.levels.width[level], stride = p.levels.stride[level];
  const int64_t location = global_thread();
  if (location >= static_cast<int64_t>(p.levels.height[level]) * width) return;
  const float x = point_of(static_cast<int>(location % width), stride);
  const float y = point_of(static_cast<int>(location / width), stride);
  if (!(x < p.image_width && y < p.image_height)) return;
  const LinearTap column = linear_tap(x / p.logits_stride, p.logits_width);
  const LinearTap row = linear_tap(y / p.logits_stride, p.logits_height);
  const int64_t plane = static_cast<int64_t>(p.logits_height) * p.logits_width;

  float largest = -__builtin_huge_valf();
  for (int c = 0; c < p.num_classes; ++c) {
    const float logit = bilinear(logits + c * plane, p.logits_width, row, column);
    largest = logit > largest ? logit : largest;
  }
  float sum = 0.f;
  for (int c = 0; c < p.num_classes; ++c)
    sum += exp_of_nonpositive(bilinear(logits + c * plane, p.logits_width, row, column) - largest);
  const float lowest = lowest_logit(largest, log_threshold);
  for (int c = 0; c < p.num_classes; ++c) {
    if (!is_thing[c]) continue;
    const float logit = bilinear(logits + c * plane, p.logits_width, row, column);
    if (!(logit >= lowest)) continue;
    const float probability = probability_of(logit, largest, sum);
    if (!(probability > p.score_threshold)) continue;
    const float score = fused_score(probability, levels.borderness[level][location], p.score_fusion == LPS_SCORE_SQRT);
    if (!is_finite(score) || !is_finite(ltrb_at(p, levels, level, location))) continue;
    const unsigned place = atomicAdd(levels.found + level, 1u);
    levels.candidates[level][place] = descending_key(score, static_cast<uint32_t>(location * p.num_classes + c));
  }
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
    if (threadIdx.x == 0) {
      unsigned digit = 0;
      for (; bins[digit] < wanted; ++digit) wanted -= bins[digit];
      shared_prefix = prefix | uint64_t{digit} << shift;
      shared_wanted = wanted;
    }
    __syncthreads();
    prefix = shared_prefix;
    wanted = shared_wanted;
  }
  if (threadIdx.x == 0) written = 0;
  __syncthreads();
  for (unsigned i = threadIdx.x; i < count; i += kSelectThreads)
    if (keys[i] <= prefix) best[atomicAdd(&written, 1u)] = keys[i];
}

// One thread for a key, a row of blocks for a level: its place is how many of its level come before it.
__global__ void write_boxes(LpsDecodeParams p, Levels levels, Box* boxes, float* scores, int32_t* labels,
                            int32_t* box_levels) {
  const int level = blockIdx.y;
  const unsigned count = best_count(levels, level, p.topk);
  const unsigned i = blockIdx.x * kRankThreads + threadIdx.x;
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

__global__ void write_padding(LpsDecodeParams p, Levels levels, Box* boxes, float* scores, int32_t* labels,
                              int32_t* box_levels, int32_t* num_boxes) {
  int64_t count = 0;
  for (int l = 0; l < p.levels.num_levels; ++l) count += best_count(levels, l, p.topk);
  const int64_t i = global_thread();
  if (i == 0) *num_boxes = static_cast<int32_t>(count);
  if (i < count || i >= static_cast<int64_t>(p.levels.num_levels) * p.topk) return;
  boxes[i] = {0.f, 0.f, 0.f, 0.f};
  scores[i] = 0.f;
  labels[i] = -1;
  box_levels[i] = -1;
}

}  // namespace

size_t decode_cuda_workspace(const LpsDecodeParams& params) { return Workspace(params, nullptr).size; }

void decode_cuda(const LpsDecodeParams& p, const LpsContext& context, const float* logits, const uint8_t* is_thing,
                 const float* const* ltrb, const float* const* borderness, float* boxes, float* scores, int32_t* labels,
                 int32_t* box_levels, int32_t* num_boxes) {
  const auto stream = static_cast<cudaStream_t>(context.stream);
  Workspace w(p, context.workspace);
  const int num_levels = p.levels.num_levels;
  const float log_threshold = std::log(p.score_threshold);
  check_cuda(cudaMemsetAsync(w.levels.found, 0, LPS_MAX_LEVELS * sizeof(unsigned), stream), "decode");
  for (int l = 0; l < num_levels; ++l) {
    w.levels.ltrb[l] = ltrb[l];
    w.levels.borderness[l] = borderness[l];
  }
  for (int l = 0; l < num_levels; ++l) {
    const int64_t locations = static_cast<int64_t>(p.levels.height[l]) * p.levels.width[l];
    launch(stream, blocks_for(locations, kThreads), kThreads, 0, find_candidates, p, w.levels, l, log_threshold, logits,
           is_thing);
  }
  launch(stream, static_cast<unsigned>(num_levels), kSelectThreads, 0, select_best, p, w.levels);
  Box* out_boxes = reinterpret_cast<Box*>(boxes);
  const dim3 ranks(blocks_for(p.topk, kRankThreads), static_cast<unsigned>(num_levels));
  launch(stream, ranks, kRankThreads, 0, write_boxes, p, w.levels, out_boxes, scores, labels, box_levels);
  launch(stream, blocks_for(static_cast<int64_t>(num_levels) * p.topk, kRankThreads), kRankThreads, 0, write_padding, p,
         w.levels, out_boxes, scores, labels, box_levels, num_boxes);
}

}  // namespace lps
