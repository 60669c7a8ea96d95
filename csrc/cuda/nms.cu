// Boxes are sorted by score, their ranks then by class. A bit for each pair of boxes of one class says whether the
// better one suppresses the other; one warp a class walks these bits 64 boxes at a time. Nothing goes to the host.
#include "cuda/nms.h"

#include "api/workspace.h"
#include "core/order.h"
#include "cuda/launch.cuh"
#include "cuda/sort.h"

namespace lps {
namespace {

constexpr int kBits = 64;      // boxes in a word of the bit matrix
constexpr int kThreads = 256;  // of the kernels that look at each box once
constexpr int kWriteThreads = 1024;
constexpr uint64_t kNone = ~uint64_t{0};  // the key of a box that takes no part; sorts behind all others
constexpr unsigned kAllLanes = 0xffffffffu;

struct Workspace {
  uint64_t *unsorted, *by_score, *by_class;
  Box* sorted_boxes;   // by class, within it by score
  uint64_t* suppress;  // [box][word]: which boxes of its class this box suppresses, all in that order
  uint8_t* keep;       // [rank]
  char* temporary;
  size_t temporary_size, size;
  int words;

  Workspace(const LpsNmsParams& p, void* base) {
    Carver carver(base);
    const size_t count = p.num_boxes;
    words = (p.num_boxes + kBits - 1) / kBits;
    temporary_size = sort_keys_temporary(p.num_boxes);
    unsorted = carver.take<uint64_t>(count);
    by_score = carver.take<uint64_t>(count);
    by_class = carver.take<uint64_t>(count);
    sorted_boxes = carver.take<Box>(count);
    suppress = carver.take<uint64_t>(count * words);
    keep = carver.take<uint8_t>(count);
    temporary = carver.take<char>(temporary_size);
    size = carver.size();
  }
};

__global__ void score_keys(int num_boxes, const Box* boxes, const float* scores, const int32_t* num_valid,
                           uint64_t* keys, uint8_t* keep) {
  const int i = static_cast<int>(global_thread());
  if (i >= num_boxes) return;
  const bool takes_part = (!num_valid || i < *num_valid) && scores[i] == scores[i] && is_finite(boxes[i]);
  keys[i] = takes_part ? descending_key(scores[i], i) : kNone;
  keep[i] = 0;
}

__global__ void class_keys(int num_boxes, const uint64_t* by_score, const int32_t* labels, uint64_t* keys) {
  const int rank = static_cast<int>(global_thread());
  if (rank >= num_boxes) return;
  const uint64_t key = by_score[rank];
  keys[rank] = key == kNone ? kNone : uint64_t{static_cast<uint32_t>(labels[index_of(key)])} << 32 | rank;
}

__global__ void gather_boxes(int num_boxes, const uint64_t* by_score, const uint64_t* by_class, const Box* boxes,
                             Box* sorted) {
  const int i = static_cast<int>(global_thread());
  if (i < num_boxes && by_class[i] != kNone) sorted[i] = boxes[index_of(by_score[index_of(by_class[i])])];
}

__device__ uint64_t class_of(uint64_t key) { return key == kNone ? kNone : key >> 32; }

// One block for 64 boxes and 64 boxes that come after them; one thread for a box.
__global__ void suppress_pairs(int num_boxes, int words, float threshold, const uint64_t* by_class, const Box* boxes,
                               uint64_t* suppress) {
  const int row = blockIdx.y * kBits + threadIdx.x, first = blockIdx.x * kBits;
  if (blockIdx.x < blockIdx.y) return;  // worse boxes suppress none
  __shared__ Box columns[kBits];
  __shared__ uint64_t classes[kBits];
  const int column = first + threadIdx.x;
  const bool there = column < num_boxes && by_class[column] != kNone;
  classes[threadIdx.x] = there ? class_of(by_class[column]) : kNone;
  if (there) columns[threadIdx.x] = boxes[column];
  __syncthreads();
  if (row >= num_boxes) return;
  const uint64_t cls = class_of(by_class[row]);
  uint64_t bits = 0;
  if (cls != kNone && classes[0] <= cls && cls <= classes[kBits - 1]) {
    const Box box = boxes[row];
    const float box_area = area(box);
    for (int j = 0; j < kBits; ++j)
      if (first + j > row && classes[j] == cls && overlaps(box, box_area, columns[j], area(columns[j]), threshold))
        bits |= uint64_t{1} << j;
  }
  suppress[static_cast<size_t>(row) * words + blockIdx.x] = bits;
}

__device__ uint64_t or_over_warp(uint64_t bits) {
  for (int lanes = 16; lanes > 0; lanes /= 2) bits |= __shfl_xor_sync(kAllLanes, bits, lanes);
  return bits;
}

// One warp for a class: that which begins at this block's box, if one does.
__global__ void walk_class(int num_boxes, int words, const uint64_t* by_class, const uint64_t* suppress,
                           uint8_t* keep) {
  const int begin = blockIdx.x, lane = threadIdx.x;
  const uint64_t cls = class_of(by_class[begin]);
  if (cls == kNone || (begin > 0 && class_of(by_class[begin - 1]) == cls)) return;
  uint64_t* removed = dynamic_shared<uint64_t>();  // [words]
  const int first_word = begin / kBits;
  for (int w = first_word + lane; w < words; w += warpSize) removed[w] = 0;
  __syncwarp();
  for (int word = first_word; word < words; ++word) {
    // Each lane looks after two boxes of the word.
    uint64_t diagonal[2], members = 0;
    for (int k = 0; k < 2; ++k) {
      const int i = word * kBits + lane + k * warpSize;
      const bool member = i >= begin && i < num_boxes && class_of(by_class[i]) == cls;
      members |= uint64_t{member} << (lane + k * warpSize);
      diagonal[k] = member ? suppress[static_cast<size_t>(i) * words + word] : 0;
    }
    members = or_over_warp(members);
    if (members == 0) break;
    uint64_t kept = members & ~removed[word];
    // Lowest first: what a box suppresses in its own word lies above it.
    for (uint64_t rest = kept; rest != 0;) {
      const int bit = __ffsll(static_cast<long long>(rest)) - 1;
      const uint64_t row = __shfl_sync(kAllLanes, bit < warpSize ? diagonal[0] : diagonal[1], bit % warpSize);
      kept &= ~row;
      rest = kept & (bit == kBits - 1 ? 0 : ~uint64_t{0} << (bit + 1));
    }
    for (int w = word + 1 + lane; w < words; w += warpSize) {
      uint64_t bits = removed[w];
      for (uint64_t rest = kept; rest != 0; rest &= rest - 1) {
        const int bit = __ffsll(static_cast<long long>(rest)) - 1;
        bits |= suppress[static_cast<size_t>(word * kBits + bit) * words + w];
      }
      removed[w] = bits;
    }
    for (int k = 0; k < 2; ++k) {
      const int bit = lane + k * warpSize;
      if (kept >> bit & 1u) keep[index_of(by_class[word * kBits + bit])] = 1;
    }
    __syncwarp();
  }
}

// One block: the kept boxes in the order of their ranks, as many as there is room for.
__global__ void write_kept(int num_boxes, int max_kept, const uint64_t* by_score, const uint8_t* keep, int32_t* kept,
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
    if (keeps && place < max_kept) kept[place] = static_cast<int32_t>(index_of(by_score[rank]));
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
    const unsigned blocks = blocks_for(n, kThreads), words = static_cast<unsigned>(w.words);
    launch(stream, blocks, kThreads, 0, score_keys, n, boxes, scores, num_valid, w.unsorted, w.keep);
    sort_keys(stream, w.unsorted, w.by_score, n, w.temporary, w.temporary_size);
    launch(stream, blocks, kThreads, 0, class_keys, n, w.by_score, labels, w.unsorted);
    sort_keys(stream, w.unsorted, w.by_class, n, w.temporary, w.temporary_size);
    launch(stream, blocks, kThreads, 0, gather_boxes, n, w.by_score, w.by_class, boxes, w.sorted_boxes);
    launch(stream, {words, words}, kBits, 0, suppress_pairs, n, w.words, p.iou_threshold, w.by_class, w.sorted_boxes,
           w.suppress);
    launch(stream, static_cast<unsigned>(n), 32, words * sizeof(uint64_t), walk_class, n, w.words, w.by_class,
           w.suppress, w.keep);
  }
  launch(stream, 1, kWriteThreads, 0, write_kept, n, p.max_kept, w.by_score, w.keep, kept, num_kept);
}

}  // namespace lps
