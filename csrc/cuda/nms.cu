// The place of each box by score, and by class and score, is how many boxes come before it. A bit for each pair of
// boxes of one class says whether the better one suppresses the other; blocks walk these bits 64 boxes at a time.
// Nothing goes to the host.
#include "cuda/nms.h"

#include "api/workspace.h"
#include "core/order.h"
#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kBits = 64;          // boxes in a word of the bit matrix
constexpr int kRankThreads = 256;  // of `rank_boxes`, which compares so many boxes with kRankTiles times so many
constexpr int kRankTiles = 2;
constexpr int kWalkThreads = 512;
constexpr int kWriteThreads = 1024;
constexpr uint32_t kNone = 0xffffffffu;  // above the score bits of all keys: that of a box that takes no part
constexpr unsigned kAllLanes = 0xffffffffu;

// What the order by class is made of: classes ascending, then scores descending. Boxes that take no part come last.
struct Entry {
  uint64_t key;  // of score and index
  int64_t label;
};

struct Workspace {
  uint32_t *rank, *place;  // [box] by score; by class, then by score
  int32_t* by_score;       // [rank] box
  int32_t* rank_at;        // [place]
  int64_t* label_at;       // [place] kNoLabel for a box that takes no part
  Box* box_at;             // [place]
  uint64_t* suppressed;    // [word][place]: which boxes of the word, which are of its class, this box suppresses
  uint8_t* keep;           // [rank]
  size_t size;
  int words;

  Workspace(const LpsNmsParams& p, void* base) {
    Carver carver(base);
    const size_t count = p.num_boxes;
    words = (p.num_boxes + kBits - 1) / kBits;
    rank = carver.take<uint32_t>(2 * count);
    place = rank ? rank + count : nullptr;
    by_score = carver.take<int32_t>(count);
    rank_at = carver.take<int32_t>(count);
    label_at = carver.take<int64_t>(count);
    box_at = carver.take<Box>(count);
    suppressed = carver.take<uint64_t>(count * words);
    keep = carver.take<uint8_t>(count);
    size = carver.size();
  }
};

constexpr int64_t kNoLabel = INT64_MAX;

struct Inputs {
  const Box* boxes;
  const float* scores;
  const int32_t* labels;
  const int32_t* num_valid;

  __device__ Entry entry(int i) const {
    const bool takes_part = (!num_valid || i < *num_valid) && scores[i] == scores[i] && is_finite(boxes[i]);
    if (!takes_part) return {static_cast<uint64_t>(kNone) << 32 | static_cast<uint32_t>(i), kNoLabel};
    return {descending_key(scores[i], static_cast<uint32_t>(i)), labels[i]};
  }
};

// One thread for a box and some of the others: adds how many of these come before it.
__global__ void rank_boxes(int num_boxes, Inputs in, uint32_t* ranks, uint32_t* places) {
  __shared__ Entry tile[kRankThreads];
  const int i = blockIdx.x * kRankThreads + threadIdx.x;
  const Entry mine = i < num_boxes ? in.entry(i) : Entry{0, 0};
  uint32_t rank = 0, place = 0;
  for (int k = 0; k < kRankTiles; ++k) {
    const int first = (blockIdx.y * kRankTiles + k) * kRankThreads, j = first + threadIdx.x;
    __syncthreads();
    if (j < num_boxes) tile[threadIdx.x] = in.entry(j);
    __syncthreads();
    const int size = num_boxes - first < kRankThreads ? num_boxes - first : kRankThreads;
    for (int t = 0; t < size; ++t) {
      const Entry other = tile[t];
      const bool better = other.key < mine.key;
      rank += better;
      place += other.label < mine.label || (other.label == mine.label && better);
    }
  }
  if (i >= num_boxes) return;
  if (rank != 0) atomicAdd(ranks + i, rank);
  if (place != 0) atomicAdd(places + i, place);
}

// One thread for a box: puts it into both orders.
__global__ void place_boxes(int num_boxes, Inputs in, Workspace w) {
  const int i = static_cast<int>(global_thread());
  if (i >= num_boxes) return;
  const uint32_t rank = w.rank[i], place = w.place[i];
  w.by_score[rank] = i;
  w.rank_at[place] = static_cast<int32_t>(rank);
  w.label_at[place] = in.entry(i).label;
  w.box_at[place] = in.boxes[i];
  w.keep[i] = 0;
}

// One block for 64 boxes and 64 boxes that are at their places or after them; one thread for one of the former.
__global__ void suppress_pairs(int num_boxes, float threshold, Workspace w) {
  const int first_row = blockIdx.y * kBits, first = blockIdx.x * kBits, row = first_row + threadIdx.x;
  if (first < first_row) return;  // worse boxes suppress none
  // Boxes of one class lie side by side: of two words that share no class none is looked at.
  if (first != first_row && w.label_at[first_row + kBits - 1] != w.label_at[first]) return;
  __shared__ Box columns[kBits];
  __shared__ int64_t labels[kBits];
  const int column = first + threadIdx.x;
  labels[threadIdx.x] = column < num_boxes ? w.label_at[column] : kNoLabel;
  if (column < num_boxes) columns[threadIdx.x] = w.box_at[column];
  __syncthreads();
  if (row >= num_boxes) return;
  const int64_t label = w.label_at[row];
  uint64_t bits = 0;
  if (label != kNoLabel) {
    const Box box = w.box_at[row];
    const float box_area = area(box);
    for (int j = 0; j < kBits; ++j)
      if (first + j > row && labels[j] == label && overlaps(box, box_area, columns[j], area(columns[j]), threshold))
        bits |= uint64_t{1} << j;
  }
  w.suppressed[static_cast<size_t>(blockIdx.x) * num_boxes + row] = bits;
}

// Those of the bits that are left when each, lowest first, has taken away what its row says.
__device__ uint64_t resolve(uint64_t bits, const uint64_t* rows) {
#pragma unroll 8
  for (int j = 0; j < kBits; ++j)
    if (bits >> j & 1u) bits &= ~rows[j];  // what a box suppresses lies above it
  return bits;
}

// The bitwise or over the block; every thread gets it.
__device__ uint64_t or_over_block(uint64_t bits, uint64_t* of_warps) {
  for (int lanes = 16; lanes > 0; lanes /= 2) bits |= __shfl_xor_sync(kAllLanes, bits, lanes);
  if (threadIdx.x % warpSize == 0) of_warps[threadIdx.x / warpSize] = bits;
  __syncthreads();
  uint64_t all = 0;
  for (int warp = 0; warp < kWalkThreads / 32; ++warp) all |= of_warps[warp];
  return all;
}

// One block for a word: the classes that begin in it, of which the last may go on over the words that follow.
__global__ void walk_words(int num_boxes, int max_kept, Workspace w) {
  __shared__ uint64_t of_warps[kWalkThreads / 32], of_members[kWalkThreads / 32], rows[kBits];
  uint64_t* kept = dynamic_shared<uint64_t>();  // [words], those before this block's stay untouched
  const int first_word = blockIdx.x, thread = threadIdx.x;
  int64_t going_on = kNoLabel;  // the class that does
  int kept_of_it = 0;
  for (int word = first_word; word < w.words; ++word) {
    const int first = word * kBits, i = first + thread;
    uint64_t member = 0;
    if (thread < kBits) {
      const int64_t label = i < num_boxes ? w.label_at[i] : kNoLabel;
      // In the first word all but the boxes of a class that began before.
      const bool is_mine = word == first_word ? first == 0 || label != w.label_at[first - 1] : label == going_on;
      member = static_cast<uint64_t>(label != kNoLabel && is_mine) << thread;
      rows[thread] = member != 0 ? w.suppressed[static_cast<size_t>(word) * num_boxes + i] : 0;
    }
    // What the kept boxes of the words before suppress in this one.
    uint64_t removed = 0;
    for (int j = first_word * kBits + thread; j < first; j += kWalkThreads)
      if (kept[j / kBits] >> (j % kBits) & 1u) removed |= w.suppressed[static_cast<size_t>(word) * num_boxes + j];
    const uint64_t members = or_over_block(member, of_members);
    removed = or_over_block(removed, of_warps);
    if (members == 0) return;
    const uint64_t left = resolve(members & ~removed, rows);
    if (left >> thread % kBits & 1u && thread < kBits) w.keep[w.rank_at[i]] = 1;
    if (thread == 0) kept[word] = left;

    const int last = first + kBits - 1;
    if (last + 1 >= num_boxes) return;
    if (word == first_word) going_on = w.label_at[last];
    if (going_on == kNoLabel || w.label_at[last + 1] != going_on) return;
    // Of a class no more than max_kept are wanted, and those are its best.
    if (word > first_word || w.label_at[first] == going_on) kept_of_it += __popcll(left);
    if (kept_of_it >= max_kept) return;
    __syncthreads();
  }
}

// One block: the kept boxes in the order of their ranks, as many as there is room for.
__global__ void write_kept(int num_boxes, int max_kept, const int32_t* by_score, const uint8_t* keep, int32_t* kept,
                           int32_t* num_kept) {
  __shared__ int warp_counts[kWriteThreads / 32];
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  int total = 0;
  for (int first = 0; first < num_boxes && total < max_kept; first += kWriteThreads) {
    const int rank = first + threadIdx.x;
    const bool keeps = rank < num_boxes && keep[rank];
    const unsigned votes = __ballot_sync(kAllLanes, keeps);
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int place = total + __popc(votes & ((1u << lane) - 1));
    for (int w = 0; w < kWriteThreads / 32; ++w) {
      if (w < warp) place += warp_counts[w];
      total += warp_counts[w];
    }
    if (keeps && place < max_kept) kept[place] = by_score[rank];
    __syncthreads();
  }
  total = total < max_kept ? total : max_kept;
  for (int i = total + threadIdx.x; i < max_kept; i += kWriteThreads) kept[i] = -1;
  if (threadIdx.x == 0) *num_kept = total;
}

}  // namespace

size_t nms_cuda_workspace(const LpsNmsParams& params) { return Workspace(params, nullptr).size; }

void nms_cuda(const LpsNmsParams& p, const LpsContext& context, const Box* boxes, const float* scores,
              const int32_t* labels, const int32_t* num_valid, int32_t* kept, int32_t* num_kept) {
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const Workspace w(p, context.workspace);
  const int n = p.num_boxes;
  if (n > 0) {
    const Inputs in{boxes, scores, labels, num_valid};
    const unsigned blocks = blocks_for(n, kRankThreads), words = static_cast<unsigned>(w.words);
    check_cuda(cudaMemsetAsync(w.rank, 0, 2 * sizeof(uint32_t) * static_cast<size_t>(n), stream), "nms");
    launch(stream, {blocks, blocks_for(n, kRankThreads * kRankTiles)}, kRankThreads, 0, rank_boxes, n, in, w.rank,
           w.place);
    launch(stream, blocks, kRankThreads, 0, place_boxes, n, in, w);
    launch(stream, {words, words}, kBits, 0, suppress_pairs, n, p.iou_threshold, w);
    launch(stream, words, kWalkThreads, words * sizeof(uint64_t), walk_words, n, p.max_kept, w);
  }
  launch(stream, 1, kWriteThreads, 0, write_kept, n, p.max_kept, w.by_score, w.keep, kept, num_kept);
}

}  // namespace lps
