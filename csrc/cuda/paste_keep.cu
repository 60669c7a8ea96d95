// The pixels of a class become a plane of bits, of which each kept box clears its own: what a box finds cleared is what
// is occupied. Masks are counted by one block a box; the boxes of a class then follow each other in one block, since
// boxes of different classes never meet. One that meets no earlier box of its class needs no second count there.
#include "cuda/paste_keep.h"

#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 256;
constexpr int kKeepThreads = 1024;
constexpr int kWordBits = 32;
constexpr int kWordsPerThread = 4;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr uint8_t kMeetsEarlier = 1, kMeetsLater = 2;

__device__ int words_of(int width) { return (width + kWordBits - 1) / kWordBits; }

__device__ uint32_t* plane_of(const LpsPasteBoxesParams& p, uint32_t* planes, int32_t cls) {
  return planes + static_cast<int64_t>(cls) * p.height * words_of(p.width);
}

__global__ void find_pixels(LpsPasteBoxesParams p, PasteInputs in, KeepWorkspace w) {
  const int i = static_cast<int>(global_thread());
  if (i >= p.num_boxes) return;
  PixelRange range{0, 0, 0, 0};
  if ((!in.num_valid || i < *in.num_valid) &&
      takes_part(in.boxes[i], in.scores[i], in.box_labels[i], p.paste_score, in.is_thing, p.num_classes))
    range = pixels_of(in.boxes[i], p.scale_y, p.scale_x, p.height, p.width);
  w.pixels[i] = range;
  w.keep[i] = 0;
}

// One bit for each of four labels: whether it is the class.
__device__ uint32_t equal_labels(uint32_t four, uint32_t cls) {
  const uint32_t differ = four ^ cls * 0x01010101u;
  const uint32_t zero = ~(((differ & 0x7f7f7f7fu) + 0x7f7f7f7fu) | differ | 0x7f7f7f7fu);  // bit 7 of bytes that are 0
  return (zero >> 7) * 0x01020408u >> 24 & 0xfu;
}

// One row of blocks for a class: its plane, where any box is of that class. One thread for some words.
__global__ void build_planes(LpsPasteBoxesParams p, PasteInputs in, KeepWorkspace w) {
  const int32_t cls = blockIdx.y;
  if (!in.is_thing[cls]) return;
  __shared__ int is_wanted;
  if (threadIdx.x == 0) is_wanted = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < p.num_boxes; i += kThreads)
    if (in.box_labels[i] == cls && !empty(w.pixels[i])) is_wanted = 1;
  __syncthreads();
  if (!is_wanted) return;
  uint32_t* plane = plane_of(p, w.planes, cls);
  const int words = words_of(p.width);
  const bool aligned = p.width % 4 == 0 && reinterpret_cast<uintptr_t>(in.labels) % 4 == 0;
  for (int k = 0; k < kWordsPerThread; ++k) {
    const int64_t word = (static_cast<int64_t>(blockIdx.x) * kWordsPerThread + k) * kThreads + threadIdx.x;
    if (word >= static_cast<int64_t>(p.height) * words) return;
    const int x = static_cast<int>(word % words) * kWordBits;
    const uint8_t* labels = in.labels + word / words * p.width + x;
    const int count = p.width - x < kWordBits ? p.width - x : kWordBits;
    uint32_t bits = 0;
    if (aligned)
      for (int j = 0; j < count; j += 4) bits |= equal_labels(*reinterpret_cast<const uint32_t*>(labels + j), cls) << j;
    else
      for (int j = 0; j < count; ++j) bits |= static_cast<uint32_t>(labels[j] == cls) << j;
    plane[word] = bits;
  }
}

// Calls body(word of a plane, its bits that are in the range), spread over the threads of the block.
template <int kBlock, typename Body>
__device__ void for_each_word(const PixelRange& r, int width, Body body) {
  const int begin = r.x0 / kWordBits, end = (r.x1 - 1) / kWordBits + 1;
  const int lanes = end - begin < kBlock ? end - begin : kBlock, rows_at_once = kBlock / lanes;
  const int first_row = static_cast<int>(threadIdx.x) / lanes;
  if (first_row >= rows_at_once) return;
  for (int word = begin + static_cast<int>(threadIdx.x) % lanes; word < end; word += lanes) {
    uint32_t bits = ~0u;
    if (word == begin) bits &= ~0u << r.x0 % kWordBits;
    if (word == end - 1) bits &= ~0u >> (kWordBits - 1 - (r.x1 - 1) % kWordBits);
#pragma unroll 4
    for (int y = r.y0 + first_row; y < r.y1; y += rows_at_once)
      body(static_cast<int64_t>(y) * words_of(width) + word, bits);
  }
}

// The sum over the block; every thread gets it.
template <int kBlock>
__device__ int32_t block_sum(int32_t value) {
  __shared__ int32_t sums[kBlock / 32];
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  if (threadIdx.x % warpSize == 0) sums[threadIdx.x / warpSize] = value;
  __syncthreads();
  int32_t total = 0;
  for (int warp = 0; warp < kBlock / 32; ++warp) total += sums[warp];
  __syncthreads();
  return total;
}

template <int kBlock>
__device__ int32_t count_bits(const uint32_t* plane, const PixelRange& range, int width) {
  int32_t count = 0;
  for_each_word<kBlock>(range, width, [&](int64_t word, uint32_t bits) { count += __popc(plane[word] & bits); });
  return block_sum<kBlock>(count);
}

// One block for a box.
__global__ void count_masks(LpsPasteBoxesParams p, PasteInputs in, KeepWorkspace w) {
  const int i = blockIdx.x;
  const PixelRange range = w.pixels[i];
  if (empty(range)) return;
  const int32_t cls = in.box_labels[i];
  const int32_t count = count_bits<kThreads>(plane_of(p, w.planes, cls), range, p.width);
  __shared__ int meets_earlier, meets_later;
  if (threadIdx.x == 0) meets_earlier = meets_later = 0;
  __syncthreads();
  for (int j = threadIdx.x; j < p.num_boxes; j += kThreads)
    if (j != i && in.box_labels[j] == cls && !empty(w.pixels[j]) && meet(range, w.pixels[j]))
      (j < i ? meets_earlier : meets_later) = 1;
  __syncthreads();
  if (threadIdx.x == 0) {
    w.mask_pixels[i] = count;
    w.meets[i] = (meets_earlier ? kMeetsEarlier : 0) | (meets_later ? kMeetsLater : 0);
  }
}

// One block for a class: its boxes one after the other, best first.
__global__ void __launch_bounds__(kKeepThreads) keep_boxes(LpsPasteBoxesParams p, PasteInputs in, KeepWorkspace w) {
  const int32_t cls = blockIdx.x;
  if (!in.is_thing[cls]) return;
  __shared__ int32_t members[kKeepThreads], warp_counts[kKeepThreads / 32];
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  uint32_t* plane = plane_of(p, w.planes, cls);
  for (int first = 0; first < p.num_boxes; first += kKeepThreads) {
    const int candidate = first + static_cast<int>(threadIdx.x);
    const bool is_member = candidate < p.num_boxes && in.box_labels[candidate] == cls && !empty(w.pixels[candidate]);
    const unsigned votes = __ballot_sync(kAllLanes, is_member);
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int place = __popc(votes & ((1u << lane) - 1)), num_members = 0;
    for (int k = 0; k < kKeepThreads / 32; ++k) {
      if (k < warp) place += warp_counts[k];
      num_members += warp_counts[k];
    }
    if (is_member) members[place] = candidate;
    __syncthreads();
    for (int m = 0; m < num_members; ++m) {
      const int i = members[m];
      const PixelRange range = w.pixels[i];
      const int32_t mask_pixels = w.mask_pixels[i];
      const uint8_t meets = w.meets[i];
      int32_t occupied = 0;
      if (meets & kMeetsEarlier) occupied = mask_pixels - count_bits<kKeepThreads>(plane, range, p.width);
      if (!keeps(mask_pixels, occupied, p.overlap_threshold)) continue;
      if (threadIdx.x == 0) w.keep[i] = 1;
      if (!(meets & kMeetsLater)) continue;
      for_each_word<kKeepThreads>(range, p.width, [&](int64_t word, uint32_t bits) { plane[word] &= ~bits; });
      __syncthreads();
    }
    __syncthreads();
  }
}

}  // namespace

void keep_boxes_cuda(cudaStream_t stream, const LpsPasteBoxesParams& p, const PasteInputs& in, const KeepWorkspace& w) {
  const auto classes = static_cast<unsigned>(p.num_classes), boxes = static_cast<unsigned>(p.num_boxes);
  const int64_t words = static_cast<int64_t>(p.height) * ((p.width + kWordBits - 1) / kWordBits);
  launch(stream, blocks_for(p.num_boxes, kThreads), kThreads, 0, find_pixels, p, in, w);
  launch(stream, dim3(blocks_for(words, kThreads * kWordsPerThread), classes), kThreads, 0, build_planes, p, in, w);
  launch(stream, boxes, kThreads, 0, count_masks, p, in, w);
  launch(stream, classes, kKeepThreads, 0, keep_boxes, p, in, w);
}

}  // namespace lps
