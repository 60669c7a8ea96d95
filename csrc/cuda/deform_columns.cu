// One warp for a sample: an output position, a kernel tap and a group of channels. Its lanes take the channels, which
// lie side by side.
#include "cuda/deform_columns.h"

#include "core/deform_tile.h"
#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kAllLanes = 0xffffffffu;

// Which sample this warp takes; there is none for warps beyond the last.
struct Work {
  bool exists;
  int64_t position, tap, group, column;  // column: of its first channel, in the array of columns
  int lane;
};

template <typename T>
__device__ Work work_of(const DeformTile<T>& tile) {
  const int64_t warp = global_thread() / warpSize;
  const int64_t groups = tile.params.offset_groups, taps = tile.num_taps();
  const int64_t sample = warp / groups;
  Work w{};
  w.lane = static_cast<int>(threadIdx.x) % warpSize;
  w.group = warp % groups;
  w.tap = sample % taps;
  w.position = tile.params.begin + sample / taps;
  w.column = sample * tile.params.channels + w.group * tile.group_channels();
  w.exists = w.position < tile.params.end;
  return w;
}

unsigned blocks_of(const LpsDeformColumnsParams& p) {
  const int64_t samples = (p.end - p.begin) * p.kernel_h * p.kernel_w * p.offset_groups;
  return blocks_for(samples * 32, kThreads);
}

template <typename T>
__global__ void gather_columns(DeformTile<T> tile, T* columns) {
  const Work w = work_of(tile);
  if (!w.exists) return;
  const int64_t channels = tile.group_channels();
  T* out = columns + w.column;
  const DeformSample<T> sample = tile.sample(w.group, w.tap, w.position);
  const T mask = tile.mask_value(w.group, w.tap, w.position);
  const T* corner[4] = {};
  T weight[4] = {};
  for (int i = 0; i < 4 && sample.inside; ++i) {
    weight[i] = deform_corner_weight(sample, i);
    const T* first = weight[i] == T(0) ? nullptr : tile.corner(sample, i);
    corner[i] = first ? first + w.group * channels : nullptr;
    weight[i] *= mask;
  }
  const bool on_a_pixel = sample.inside && sample.dy == T(0) && sample.dx == T(0);
  for (int64_t c = w.lane; c < channels; c += warpSize) {
    T value[4];
    for (int i = 0; i < 4; ++i) value[i] = corner[i] ? corner[i][c] : T(0);
    out[c] = !sample.inside ? T(0)
             : on_a_pixel   ? weight[0] * value[0]
                            : deform_blend(weight, value[0], value[1], value[2], value[3]);
  }
}

template <typename T>
__global__ void gather_gradients(DeformTile<T> tile, const T* grad_columns, T* grad_input, T* grad_offset,
                                 T* grad_mask) {
  const Work w = work_of(tile);
  if (!w.exists) return;
  const int64_t channels = tile.group_channels();
  const T* grad = grad_columns + w.column;
  const DeformSample<T> sample = tile.sample(w.group, w.tap, w.position);
  T grad_y = 0, grad_x = 0, grad_value = 0;
  if (sample.inside) {
    const T mask = tile.mask_value(w.group, w.tap, w.position);
    T product[4] = {};
    for (int i = 0; i < 4; ++i) {
      const T* corner = tile.corner(sample, i);
      const T weight = deform_corner_weight(sample, i) * mask;
      T* out = grad_input + (corner ? corner - tile.input : 0) + w.group * channels;
      for (int64_t c = w.lane; corner && c < channels; c += warpSize) {
        product[i] += grad[c] * corner[w.group * channels + c];
        if (weight != T(0)) atomicAdd(out + c, weight * grad[c]);
      }
      for (int lanes = 16; lanes > 0; lanes /= 2) product[i] += __shfl_xor_sync(kAllLanes, product[i], lanes);
    }
    grad_y = mask * deform_grad_y(sample, product);
    grad_x = mask * deform_grad_x(sample, product);
    for (int i = 0; i < 4; ++i) {
      const T weight = deform_corner_weight(sample, i);
      if (weight != T(0)) grad_value += weight * product[i];
    }
  }
  if (w.lane != 0) return;
  T* shift = grad_offset + tile.offset_index(w.group, w.tap, w.position);
  shift[0] = grad_y;
  shift[tile.num_positions()] = grad_x;
  if (grad_mask) grad_mask[tile.mask_index(w.group, w.tap, w.position)] = grad_value;
}

}  // namespace

template <typename T>
void deform_columns_cuda(const LpsDeformColumnsParams& p, void* stream, const T* input, const T* offset, const T* mask,
                         T* columns) {
  launch(static_cast<cudaStream_t>(stream), blocks_of(p), kThreads, 0, gather_columns<T>,
         DeformTile<T>{p, input, offset, mask}, columns);
}

template <typename T>
void deform_columns_backward_cuda(const LpsDeformColumnsParams& p, void* stream, const T* input, const T* offset,
                                  const T* mask, const T* grad_columns, T* grad_input, T* grad_offset, T* grad_mask) {
  launch(static_cast<cudaStream_t>(stream), blocks_of(p), kThreads, 0, gather_gradients<T>,
         DeformTile<T>{p, input, offset, mask}, grad_columns, grad_input, grad_offset, grad_mask);
}

template void deform_columns_cuda(const LpsDeformColumnsParams&, void*, const float*, const float*, const float*,
                                  float*);
template void deform_columns_cuda(const LpsDeformColumnsParams&, void*, const double*, const double*, const double*,
                                  double*);
template void deform_columns_backward_cuda(const LpsDeformColumnsParams&, void*, const float*, const float*,
                                           const float*, const float*, float*, float*, float*);
template void deform_columns_backward_cuda(const LpsDeformColumnsParams&, void*, const double*, const double*,
                                           const double*, const double*, double*, double*, double*);

}  // namespace lps
