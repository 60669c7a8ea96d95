// The panoptic head in four steps: which boxes are kept (one block for a class, since boxes of different classes never
// meet), who owns each pixel (one thread for a run of pixels), which segments there are, and their ids.
// Codes stand for segments until the last step: 0 void, 1 .. K the kept boxes, K + 1 + c the stuff class c.
#include "cuda/paste_boxes.h"

#include "api/workspace.h"
#include "core/bilinear.h"
#include "core/borderness.h"
#include "core/paste.h"
#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 256;
constexpr int kKeepThreads = 512;
constexpr int kTableThreads = 1024;
constexpr int kRun = 8;  // neighbouring pixels of a row for one thread
constexpr unsigned kAllLanes = 0xffffffffu;

// A kept box.
struct PastedBox {
  Box box;
  PixelRange pixels;
  float area;
  int32_t index, label, level;  // level -1: nothing was predicted for it
};

// The pixels of a code.
struct Extent {
  int32_t area, x0, y0, x1, y1;
};

struct Maps {
  const float* borderness[LPS_MAX_LEVELS];
};

struct Workspace {
  PixelRange* pixels;  // [num_boxes]; empty for a box that takes no part
  uint8_t* keep;       // [num_boxes]
  uint8_t* occupied;   // [height * width]
  PastedBox* pasted;   // [num_boxes], sorted by index
  int32_t* num_pasted;
  Extent* extents;      // [code]
  int32_t* id_of_code;  // [code]
  size_t num_codes, size;

  Workspace(const LpsPasteBoxesParams& p, void* base) {
    Carver carver(base);
    num_codes = static_cast<size_t>(p.num_boxes) + 1 + p.num_classes;
    pixels = carver.take<PixelRange>(p.num_boxes);
    keep = carver.take<uint8_t>(p.num_boxes);
    occupied = carver.take<uint8_t>(static_cast<size_t>(p.height) * p.width);
    pasted = carver.take<PastedBox>(p.num_boxes);
    num_pasted = carver.take<int32_t>(1);
    extents = carver.take<Extent>(num_codes);
    id_of_code = carver.take<int32_t>(num_codes);
    size = carver.size();
  }
};

__global__ void find_pixels(LpsPasteBoxesParams p, PasteInputs in, PixelRange* pixels, uint8_t* keep) {
  const int i = static_cast<int>(global_thread());
  if (i >= p.num_boxes) return;
  PixelRange range{0, 0, 0, 0};
  if ((!in.num_valid || i < *in.num_valid) &&
      takes_part(in.boxes[i], in.scores[i], in.box_labels[i], p.paste_score, in.is_thing, p.num_classes))
    range = pixels_of(in.boxes[i], p.scale_y, p.scale_x, p.height, p.width);
  pixels[i] = range;
  keep[i] = 0;
}

// The sum over the block; every thread gets it.
__device__ int32_t block_sum(int32_t value) {
  __shared__ int32_t sums[kKeepThreads / 32];
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  if (threadIdx.x % warpSize == 0) sums[threadIdx.x / warpSize] = value;
  __syncthreads();
  int32_t total = 0;
  for (int warp = 0; warp < kKeepThreads / 32; ++warp) total += sums[warp];
  __syncthreads();
  return total;
}

// Calls body(index of the pixel) for the pixels of a range, spread over the threads of the block.
template <typename Body>
__device__ void for_each_pixel(const PixelRange& r, int width, Body body) {
  const int columns = r.x1 - r.x0, lanes = columns < kKeepThreads ? columns : kKeepThreads;
  const int rows_at_once = kKeepThreads / lanes, first_row = threadIdx.x / lanes;
  if (first_row >= rows_at_once) return;
  for (int y = r.y0 + first_row; y < r.y1; y += rows_at_once)
    for (int x = r.x0 + static_cast<int>(threadIdx.x) % lanes; x < r.x1; x += lanes)
      body(static_cast<int64_t>(y) * width + x);
}

// One block for a class: its boxes one after the other, best first. Blocks share the map of occupied pixels: a pixel
// has one class, so no two of them look at the same one.
__global__ void keep_boxes(LpsPasteBoxesParams p, PasteInputs in, const PixelRange* pixels, uint8_t* occupied,
                           uint8_t* keep) {
  const int32_t cls = blockIdx.x;
  if (!in.is_thing[cls]) return;
  for (int i = 0; i < p.num_boxes; ++i) {
    const PixelRange range = pixels[i];
    if (in.box_labels[i] != cls || empty(range)) continue;
    int32_t mask_pixels = 0, occupied_pixels = 0;
    for_each_pixel(range, p.width, [&](int64_t at) {
      if (in.labels[at] != cls) return;
      ++mask_pixels;
      occupied_pixels += occupied[at];
    });
    mask_pixels = block_sum(mask_pixels);
    occupied_pixels = block_sum(occupied_pixels);
    if (!keeps(mask_pixels, occupied_pixels, p.overlap_threshold)) continue;
    for_each_pixel(range, p.width, [&](int64_t at) {
      if (in.labels[at] == cls) occupied[at] = 1;
    });
    if (threadIdx.x == 0) keep[i] = 1;
    __syncthreads();
  }
}

// One block: the kept boxes side by side, in their order.
__global__ void gather_pasted(LpsPasteBoxesParams p, PasteInputs in, const PixelRange* pixels, const uint8_t* keep,
                              PastedBox* pasted, int32_t* num_pasted) {
  __shared__ int32_t warp_counts[kTableThreads / 32];
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  int32_t total = 0;
  for (int first = 0; first < p.num_boxes; first += kTableThreads) {
    const int i = first + threadIdx.x;
    const bool kept = i < p.num_boxes && keep[i];
    const unsigned votes = __ballot_sync(kAllLanes, kept);
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int32_t place = total + __popc(votes & ((1u << lane) - 1));
    for (int w = 0; w < kTableThreads / 32; ++w) {
      if (w < warp) place += warp_counts[w];
      total += warp_counts[w];
    }
    if (kept) {
      const int32_t level = in.box_levels ? in.box_levels[i] : -1;
      const bool predicted = level >= 0 && level < p.levels.num_levels;
      pasted[place] = {in.boxes[i], pixels[i], area(in.boxes[i]), i, in.box_labels[i], predicted ? level : -1};
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *num_pasted = total;
}

__global__ void clear_extents(int num_codes, Extent* extents) {
  const int code = static_cast<int>(global_thread());
  if (code < num_codes) extents[code] = {0, INT32_MAX, INT32_MAX, 0, 0};
}

__device__ float gap_at(const LpsPasteBoxesParams& p, const Maps& maps, const PastedBox& b, int x, int y) {
  if (b.level < 0) return __builtin_huge_valf();
  const float column = pixel_centre(x, p.scale_x), row = pixel_centre(y, p.scale_y);
  const float stride = static_cast<float>(p.levels.stride[b.level]);
  const LinearTap tap_x = linear_tap(column / stride, p.levels.width[b.level]);
  const LinearTap tap_y = linear_tap(row / stride, p.levels.height[b.level]);
  const float predicted = bilinear(maps.borderness[b.level], p.levels.width[b.level], tap_y, tap_x);
  return borderness_gap(b.box, column, row, predicted);
}

__device__ bool covers(const PixelRange& r, int x, int y) { return x >= r.x0 && x < r.x1 && y >= r.y0 && y < r.y1; }

// The kept box that owns a pixel of a thing class, as its code, or 0.
__device__ int32_t owner_of(const LpsPasteBoxesParams& p, const Maps& maps, const PastedBox* pasted, int32_t num_pasted,
                            int32_t label, int x, int y) {
  int32_t owner = 0;
  float best = 0.f;  // of what decides; NaN for a gap that has not been needed yet
  bool is_known = false;
  for (int32_t i = 0; i < num_pasted; ++i) {
    const PastedBox& b = pasted[i];
    if (b.label != label || !covers(b.pixels, x, y)) continue;
    if (owner == 0) {
      owner = i + 1;
      if (p.assignment == LPS_HIGHEST_CONFIDENCE) return owner;
      continue;
    }
    const bool by_area = p.assignment == LPS_SMALLEST_AREA;
    const PastedBox& rival = pasted[owner - 1];
    if (!is_known) best = by_area ? rival.area : gap_at(p, maps, rival, x, y);
    is_known = true;
    const float mine = by_area ? b.area : gap_at(p, maps, b, x, y);
    if (mine < best) owner = i + 1, best = mine;
  }
  return owner;
}

__device__ void add_run(Extent* extents, int32_t code, int x0, int x1, int y) {
  Extent& e = extents[code];
  atomicAdd(&e.area, x1 - x0);
  atomicMin(&e.x0, x0);
  atomicMin(&e.y0, y);
  atomicMax(&e.x1, x1);
  atomicMax(&e.y1, y + 1);
}

// One thread for a run of pixels of a row. Runs of one code are added up before they are counted.
__global__ void assign_pixels(LpsPasteBoxesParams p, PasteInputs in, Maps maps, const PastedBox* pasted,
                              const int32_t* num_pasted, int32_t* codes, Extent* extents) {
  const int runs_per_row = (p.width + kRun - 1) / kRun;
  const int64_t run = global_thread();
  if (run >= static_cast<int64_t>(runs_per_row) * p.height) return;
  const int y = static_cast<int>(run / runs_per_row), begin = static_cast<int>(run % runs_per_row) * kRun;
  const int end = begin + kRun < p.width ? begin + kRun : p.width;
  const int32_t count = *num_pasted;
  int32_t previous = 0;
  int previous_begin = begin;
  for (int x = begin; x < end; ++x) {
    const int64_t at = static_cast<int64_t>(y) * p.width + x;
    int32_t label = in.labels[at], code = 0;
    if (label < p.num_classes && in.is_thing[label]) {
      code = owner_of(p, maps, pasted, count, label, x, y);
      label = code == 0 && in.stuff_labels ? in.stuff_labels[at] : p.num_classes;
    }
    if (label < p.num_classes && !in.is_thing[label]) code = count + 1 + label;
    codes[at] = code;
    if (code != previous) {
      if (previous != 0) add_run(extents, previous, previous_begin, x, y);
      previous = code;
      previous_begin = x;
    }
  }
  if (previous != 0) add_run(extents, previous, previous_begin, end, y);
}

// One block: the segments in the order of their codes, then padding.
__global__ void write_table(LpsPasteBoxesParams p, PasteInputs in, PasteOutputs out, const PastedBox* pasted,
                            const int32_t* num_pasted, const Extent* extents, int32_t* id_of_code) {
  __shared__ int32_t warp_counts[kTableThreads / 32];
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  const int32_t num_boxes = *num_pasted, num_codes = num_boxes + 1 + p.num_classes;
  int32_t total = 0;
  for (int first = 0; first < num_codes; first += kTableThreads) {
    const int32_t code = first + static_cast<int32_t>(threadIdx.x);
    const bool is_box = code >= 1 && code <= num_boxes;
    const int32_t area = code >= 1 && code < num_codes ? extents[code].area : 0;
    const bool is_segment = area > 0 && (is_box || area >= p.stuff_area_limit);
    const unsigned votes = __ballot_sync(kAllLanes, is_segment);
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int32_t row = total + __popc(votes & ((1u << lane) - 1));
    for (int w = 0; w < kTableThreads / 32; ++w) {
      if (w < warp) row += warp_counts[w];
      total += warp_counts[w];
    }
    if (code < num_codes) id_of_code[code] = is_segment ? row + 1 : 0;
    if (is_segment) {
      out.segment_labels[row] = is_box ? pasted[code - 1].label : code - num_boxes - 1;
      out.segment_scores[row] = is_box ? in.scores[pasted[code - 1].index] : 1.f;
      out.segment_areas[row] = area;
      const int32_t box[4] = {extents[code].x0, extents[code].y0, extents[code].x1, extents[code].y1};
      for (int k = 0; k < 4; ++k) out.segment_boxes[4 * static_cast<int64_t>(row) + k] = box[k];
    }
    __syncthreads();
  }
  for (int32_t row = total + static_cast<int32_t>(threadIdx.x); row < p.num_boxes + p.num_classes;
       row += kTableThreads) {
    out.segment_labels[row] = -1;
    out.segment_scores[row] = 0.f;
    out.segment_areas[row] = 0;
    for (int k = 0; k < 4; ++k) out.segment_boxes[4 * static_cast<int64_t>(row) + k] = 0;
  }
  if (threadIdx.x == 0) *out.num_segments = total;
}

__global__ void codes_to_ids(int64_t pixels, const int32_t* id_of_code, int32_t* codes) {
  const int64_t i = global_thread();
  if (i < pixels) codes[i] = id_of_code[codes[i]];
}

}  // namespace

size_t paste_boxes_cuda_workspace(const LpsPasteBoxesParams& params) { return Workspace(params, nullptr).size; }

void paste_boxes_cuda(const LpsPasteBoxesParams& p, const LpsContext& context, const PasteInputs& in,
                      const PasteOutputs& out) {
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const Workspace w(p, context.workspace);
  const int64_t pixels = static_cast<int64_t>(p.height) * p.width;
  const int num_codes = static_cast<int>(w.num_codes);
  Maps maps{};
  const bool reads_maps = p.num_boxes > 0 && p.assignment == LPS_CLOSEST_BORDERNESS;
  for (int l = 0; reads_maps && l < p.levels.num_levels; ++l) maps.borderness[l] = in.borderness[l];

  launch(stream, blocks_for(num_codes, kThreads), kThreads, 0, clear_extents, num_codes, w.extents);
  if (p.num_boxes > 0 && pixels > 0) {
    check_cuda(cudaMemsetAsync(w.occupied, 0, static_cast<size_t>(pixels), stream), "paste_boxes");
    launch(stream, blocks_for(p.num_boxes, kThreads), kThreads, 0, find_pixels, p, in, w.pixels, w.keep);
    launch(stream, static_cast<unsigned>(p.num_classes), kKeepThreads, 0, keep_boxes, p, in, w.pixels, w.occupied,
           w.keep);
    launch(stream, 1, kTableThreads, 0, gather_pasted, p, in, w.pixels, w.keep, w.pasted, w.num_pasted);
  } else {
    check_cuda(cudaMemsetAsync(w.num_pasted, 0, sizeof(int32_t), stream), "paste_boxes");
  }
  if (pixels > 0) {
    const int64_t runs = static_cast<int64_t>((p.width + kRun - 1) / kRun) * p.height;
    launch(stream, blocks_for(runs, kThreads), kThreads, 0, assign_pixels, p, in, maps, w.pasted, w.num_pasted, out.ids,
           w.extents);
  }
  launch(stream, 1, kTableThreads, 0, write_table, p, in, out, w.pasted, w.num_pasted, w.extents, w.id_of_code);
  if (pixels > 0)
    launch(stream, blocks_for(pixels, kThreads), kThreads, 0, codes_to_ids, pixels, w.id_of_code, out.ids);
}

}  // namespace lps
