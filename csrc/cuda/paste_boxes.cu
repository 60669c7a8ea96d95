// The panoptic head in four steps: which boxes are kept (paste_keep.cu), who owns each pixel (one block for a tile of
// pixels and the boxes that reach into it), which segments there are, and their ids.
// Codes stand for segments until the last step: 0 void, 1 .. K the kept boxes, K + 1 + c the stuff class c.
#include "cuda/paste_boxes.h"

#include "api/workspace.h"
#include "core/bilinear.h"
#include "core/borderness.h"
#include "core/paste.h"
#include "cuda/launch.cuh"
#include "cuda/paste_keep.h"

namespace lps {
namespace {

constexpr int kThreads = 256;
constexpr int kTableThreads = 1024;
constexpr int kTile = 32;                        // a block assigns a square of pixels of this side
constexpr int kWarps = kThreads / 32;            // each a band of its rows, the lanes the columns
constexpr int kRows = kTile / kWarps;            // of a band
constexpr size_t kMostSharedExtents = 32 << 10;  // bytes
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
  Carver carver;
  KeepWorkspace kept;
  PastedBox* pasted;  // [num_boxes], sorted by index
  int32_t* num_pasted;
  Extent* extents;      // [code]
  int32_t* id_of_code;  // [code]
  size_t num_codes, size;

  Workspace(const LpsPasteBoxesParams& p, void* base) : carver(base), kept(p, carver) {
    num_codes = static_cast<size_t>(p.num_boxes) + 1 + p.num_classes;
    pasted = carver.take<PastedBox>(p.num_boxes);
    num_pasted = carver.take<int32_t>(1);
    extents = carver.take<Extent>(num_codes);
    id_of_code = carver.take<int32_t>(num_codes);
    size = carver.size();
  }
};

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

// Who owns a pixel so far. Boxes come in their order, so that of equals the first remains.
struct Owner {
  int32_t code = 0;
  float best = 0.f;  // of what decides, once there has been a rival
  bool is_known = false;

  __device__ void offer(const LpsPasteBoxesParams& p, const Maps& maps, const PastedBox* pasted, const PastedBox& b,
                        int32_t number, int x, int y) {
    if (code == 0) {
      code = number;
      return;
    }
    if (p.assignment == LPS_HIGHEST_CONFIDENCE) return;
    const bool by_area = p.assignment == LPS_SMALLEST_AREA;
    if (!is_known) best = by_area ? pasted[code - 1].area : gap_at(p, maps, pasted[code - 1], x, y);
    is_known = true;
    const float mine = by_area ? b.area : gap_at(p, maps, b, x, y);
    if (mine < best) code = number, best = mine;
  }
};

__device__ void add_rectangle(Extent* extents, int32_t code, int32_t area, const PixelRange& r) {
  Extent& e = extents[code];
  atomicAdd(&e.area, area);
  atomicMin(&e.x0, r.x0);
  atomicMin(&e.y0, r.y0);
  atomicMax(&e.x1, r.x1);
  atomicMax(&e.y1, r.y1);
}

// One warp: adds up the codes of a band, kRows of a lane, one distinct code after the other.
__device__ void add_band(Extent* extents, int32_t (&codes)[kRows], int x0, int y0) {
  for (;;) {
    int32_t code = 0;
#pragma unroll
    for (int k = kRows - 1; k >= 0; --k) code = codes[k] != 0 ? codes[k] : code;
    const unsigned waiting = __ballot_sync(kAllLanes, code != 0);
    if (waiting == 0) return;
    code = __shfl_sync(kAllLanes, code, __ffs(static_cast<int>(waiting)) - 1);
    unsigned columns = 0;
    int32_t area = 0;
    int top = kRows, bottom = 0;
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const unsigned row = __ballot_sync(kAllLanes, codes[k] == code);
      if (codes[k] == code) codes[k] = 0;
      columns |= row;
      area += __popc(row);
      if (row != 0) bottom = k + 1;
      if (row != 0 && top == kRows) top = k;
    }
    if (threadIdx.x % warpSize == 0)
      add_rectangle(extents, code, area,
                    {x0 + __ffs(static_cast<int>(columns)) - 1, y0 + top,
                     x0 + warpSize - __clz(static_cast<int>(columns)), y0 + bottom});
  }
}

// The kept boxes among `count` that reach into the tile, in their order, as numbers; returns how many.
__device__ int boxes_of_tile(const PastedBox* pasted, int count, const PixelRange& tile, int* numbers) {
  __shared__ int warp_counts[kWarps];
  const int i = threadIdx.x, lane = i % warpSize, warp = i / warpSize;
  const bool reaches = i < count && meet(pasted[i].pixels, tile);
  const unsigned votes = __ballot_sync(kAllLanes, reaches);
  __syncthreads();  // the numbers of the boxes before have been read
  if (lane == 0) warp_counts[warp] = __popc(votes);
  __syncthreads();
  int place = __popc(votes & ((1u << lane) - 1)), total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) place += warp_counts[w];
    total += warp_counts[w];
  }
  if (reaches) numbers[place] = i;
  __syncthreads();
  return total;
}

// One block for a tile. Extents are added up in shared memory before they are in global memory, where there is room.
__global__ void __launch_bounds__(kThreads)
    assign_pixels(const __grid_constant__ LpsPasteBoxesParams p, PasteInputs in, const __grid_constant__ Maps maps,
                  const PastedBox* pasted, const int32_t* num_pasted, int num_shared_extents, int32_t* codes,
                  Extent* extents) {
  __shared__ int numbers[kThreads];
  Extent* sums = num_shared_extents > 0 ? dynamic_shared<Extent>() : extents;
  for (int i = threadIdx.x; i < num_shared_extents; i += kThreads) sums[i] = {0, INT32_MAX, INT32_MAX, 0, 0};
  const int tiles_across = (p.width + kTile - 1) / kTile;
  const int x0 = static_cast<int>(blockIdx.x) % tiles_across * kTile;
  const int y0 = static_cast<int>(blockIdx.x) / tiles_across * kTile;
  const int x = x0 + static_cast<int>(threadIdx.x) % warpSize;
  const int first_row = y0 + static_cast<int>(threadIdx.x) / warpSize * kRows;
  const int32_t count = *num_pasted;

  int32_t labels[kRows];  // num_classes: no pixel, or one of no class
  Owner owners[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    const int y = first_row + k;
    const int32_t label =
        x < p.width && y < p.height ? in.labels[static_cast<int64_t>(y) * p.width + x] : p.num_classes;
    labels[k] = label < p.num_classes ? label : p.num_classes;
  }
  for (int first = 0; first < count; first += kThreads) {
    const int size = count - first < kThreads ? count - first : kThreads;
    const int reaching = boxes_of_tile(pasted + first, size, {x0, y0, x0 + kTile, y0 + kTile}, numbers);
    for (int n = 0; n < reaching; ++n) {
      const int i = first + numbers[n];
      const PastedBox& b = pasted[i];
#pragma unroll
      for (int k = 0; k < kRows; ++k)
        if (b.label == labels[k] && covers(b.pixels, x, first_row + k))
          owners[k].offer(p, maps, pasted, b, i + 1, x, first_row + k);
    }
  }

#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    const int64_t at = static_cast<int64_t>(first_row + k) * p.width + x;
    int32_t label = labels[k], code = owners[k].code;
    if (label < p.num_classes && in.is_thing[label])
      label = code == 0 && in.stuff_labels ? in.stuff_labels[at] : p.num_classes;
    if (label < p.num_classes && !in.is_thing[label]) code = count + 1 + label;
    if (x < p.width && first_row + k < p.height) codes[at] = code;
    labels[k] = code;
  }
  __syncthreads();  // the sums have been cleared
  add_band(sums, labels, x0, first_row);
  __syncthreads();
  for (int i = threadIdx.x; i < num_shared_extents; i += kThreads)
    if (sums[i].area != 0) add_rectangle(extents, i, sums[i].area, {sums[i].x0, sums[i].y0, sums[i].x1, sums[i].y1});
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
    keep_boxes_cuda(stream, p, in, w.kept);
    launch(stream, 1, kTableThreads, 0, gather_pasted, p, in, w.kept.pixels, w.kept.keep, w.pasted, w.num_pasted);
  } else {
    check_cuda(cudaMemsetAsync(w.num_pasted, 0, sizeof(int32_t), stream), "paste_boxes");
  }
  if (pixels > 0) {
    const unsigned tiles = blocks_for(p.width, kTile) * blocks_for(p.height, kTile);
    const size_t bytes = w.num_codes * sizeof(Extent);
    const bool fits = bytes <= kMostSharedExtents;
    launch(stream, tiles, kThreads, fits ? bytes : 0, assign_pixels, p, in, maps, w.pasted, w.num_pasted,
           fits ? num_codes : 0, out.ids, w.extents);
  }
  launch(stream, 1, kTableThreads, 0, write_table, p, in, out, w.pasted, w.num_pasted, w.extents, w.id_of_code);
  if (pixels > 0)
    launch(stream, blocks_for(pixels, kThreads), kThreads, 0, codes_to_ids, pixels, w.id_of_code, out.ids);
}

}  // namespace lps
