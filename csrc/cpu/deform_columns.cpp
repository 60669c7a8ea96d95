#include "cpu/deform_columns.h"

#include <algorithm>
#include <vector>

#include "core/deform_tile.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

// Inlined into the function with LPS_SIMD_CLONES that calls it, so that it is vectorised for each processor.
#if defined(__GNUC__)
#define LPS_INLINE inline __attribute__((always_inline))
#else
#define LPS_INLINE inline
#endif

namespace lps {
namespace {

constexpr int kLanes = 16;             // partial sums of a dot product: their number is part of the rounding
constexpr int64_t kPositionGrain = 8;  // positions for one thread: 9 taps of 256 channels are about 10 us
constexpr int64_t kChannelGrain = 64;  // channels for one thread of the scatter: whole cache lines

template <typename T>
struct Tile : DeformTile<T> {
  const T* zeros;  // [channels], read where a corner counts as 0
};

template <typename T>
LPS_INLINE void gather_sample(const Tile<T>& tile, const DeformSample<T>& sample, T mask, int64_t first_channel,
                              T* out) {
  const int64_t channels = tile.group_channels();
  if (!sample.inside) {
    std::fill_n(out, channels, T(0));
    return;
  }
  const T* corner[4];
  T weight[4];
  for (int i = 0; i < 4; ++i) {
    weight[i] = deform_corner_weight(sample, i);
    corner[i] = weight[i] == T(0) ? nullptr : tile.corner(sample, i);
    corner[i] = (corner[i] ? corner[i] : tile.zeros) + first_channel;
    weight[i] *= mask;
  }
  if (sample.dy == T(0) && sample.dx == T(0)) {
    for (int64_t c = 0; c < channels; ++c) out[c] = weight[0] * corner[0][c];
    return;
  }
  for (int64_t c = 0; c < channels; ++c)
    out[c] = deform_blend(weight, corner[0][c], corner[1][c], corner[2][c], corner[3][c]);
}

template <typename T>
LPS_INLINE void gather(const Tile<T>& tile, T* columns, int64_t begin, int64_t end) {
  const int64_t channels = tile.params.channels, group_channels = tile.group_channels();
  for (int64_t position = begin; position < end; ++position) {
    T* column = columns + (position - tile.params.begin) * tile.num_taps() * channels;
    for (int64_t tap = 0; tap < tile.num_taps(); ++tap, column += channels) {
      for (int64_t group = 0; group < tile.params.offset_groups; ++group) {
        gather_sample(tile, tile.sample(group, tap, position), tile.mask_value(group, tap, position),
                      group * group_channels, column + group * group_channels);
      }
    }
  }
}

// The products of a gradient with the four corners of its sample, summed over channels.
template <typename T>
LPS_INLINE void corner_products(const T* grad, const T* const (&corner)[4], int64_t channels, T (&sum)[4]) {
  T partial[4][kLanes] = {};
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes)
    for (int i = 0; i < 4; ++i)
      for (int lane = 0; lane < kLanes; ++lane) partial[i][lane] += grad[c + lane] * corner[i][c + lane];
  for (int lane = 0; c < channels; ++c, ++lane)
    for (int i = 0; i < 4; ++i) partial[i][lane] += grad[c] * corner[i][c];
  for (int i = 0; i < 4; ++i) {
    sum[i] = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum[i] += partial[i][lane];
  }
}

template <typename T>
LPS_INLINE void offset_gradients(const Tile<T>& tile, const T* grad_columns, T* grad_offset, T* grad_mask,
                                 int64_t begin, int64_t end) {
  const int64_t channels = tile.params.channels, group_channels = tile.group_channels();
  for (int64_t position = begin; position < end; ++position) {
    const T* grad = grad_columns + (position - tile.params.begin) * tile.num_taps() * channels;
    for (int64_t tap = 0; tap < tile.num_taps(); ++tap, grad += channels) {
      for (int64_t group = 0; group < tile.params.offset_groups; ++group) {
        const DeformSample<T> sample = tile.sample(group, tap, position);
        T product[4] = {}, grad_y = 0, grad_x = 0, grad_value = 0;
        if (sample.inside) {
          const T* corner[4];
          for (int i = 0; i < 4; ++i) {
            corner[i] = tile.corner(sample, i);
            corner[i] = (corner[i] ? corner[i] : tile.zeros) + group * group_channels;
          }
          corner_products(grad + group * group_channels, corner, group_channels, product);
          const T mask = tile.mask_value(group, tap, position);
          grad_y = mask * deform_grad_y(sample, product);
          grad_x = mask * deform_grad_x(sample, product);
          for (int i = 0; i < 4; ++i) {
            const T weight = deform_corner_weight(sample, i);
            if (weight != T(0)) grad_value += weight * product[i];
          }
        }
        T* shift = grad_offset + tile.offset_index(group, tap, position);
        shift[0] = grad_y;
        shift[tile.num_positions()] = grad_x;
        if (grad_mask) grad_mask[tile.mask_index(group, tap, position)] = grad_value;
      }
    }
  }
}

// Adds the gradients of the channels begin .. end to grad_input, for every position of the tile.
template <typename T>
LPS_INLINE void scatter(const Tile<T>& tile, const T* grad_columns, T* grad_input, int64_t begin, int64_t end) {
  const LpsDeformColumnsParams& params = tile.params;
  const int64_t group_channels = tile.group_channels();
  const T* grad = grad_columns;
  for (int64_t position = params.begin; position < params.end; ++position) {
    for (int64_t tap = 0; tap < tile.num_taps(); ++tap, grad += params.channels) {
      for (int64_t group = begin / group_channels; group * group_channels < end; ++group) {
        const DeformSample<T> sample = tile.sample(group, tap, position);
        if (!sample.inside) continue;
        const T mask = tile.mask_value(group, tap, position);
        const int64_t first = std::max(begin, group * group_channels);
        const int64_t last = std::min(end, (group + 1) * group_channels);
        for (int i = 0; i < 4; ++i) {
          const T weight = deform_corner_weight(sample, i) * mask;
          const int64_t pixel = deform_corner_pixel(sample, i, params.height, params.width);
          if (pixel < 0 || weight == T(0)) continue;
          T* out = grad_input + pixel * params.channels;
          for (int64_t c = first; c < last; ++c) out[c] += weight * grad[c];
        }
      }
    }
  }
}

// The versions for each processor.
LPS_SIMD_CLONES void gather_clones(const Tile<float>& tile, float* columns, int64_t begin, int64_t end) {
  gather(tile, columns, begin, end);
}
LPS_SIMD_CLONES void gather_clones(const Tile<double>& tile, double* columns, int64_t begin, int64_t end) {
  gather(tile, columns, begin, end);
}
LPS_SIMD_CLONES void offset_gradients_clones(const Tile<float>& tile, const float* grad_columns, float* grad_offset,
                                             float* grad_mask, int64_t begin, int64_t end) {
  offset_gradients(tile, grad_columns, grad_offset, grad_mask, begin, end);
}
LPS_SIMD_CLONES void offset_gradients_clones(const Tile<double>& tile, const double* grad_columns, double* grad_offset,
                                             double* grad_mask, int64_t begin, int64_t end) {
  offset_gradients(tile, grad_columns, grad_offset, grad_mask, begin, end);
}
LPS_SIMD_CLONES void scatter_clones(const Tile<float>& tile, const float* grad_columns, float* grad_input,
                                    int64_t begin, int64_t end) {
  scatter(tile, grad_columns, grad_input, begin, end);
}
LPS_SIMD_CLONES void scatter_clones(const Tile<double>& tile, const double* grad_columns, double* grad_input,
                                    int64_t begin, int64_t end) {
  scatter(tile, grad_columns, grad_input, begin, end);
}

}  // namespace

template <typename T>
void deform_columns_cpu(const LpsDeformColumnsParams& params, const T* input, const T* offset, const T* mask,
                        T* columns) {
  const std::vector<T> zeros(params.channels);
  const Tile<T> tile{{params, input, offset, mask}, zeros.data()};
  parallel_for(params.end - params.begin, kPositionGrain, [&](int64_t begin, int64_t end) {
    gather_clones(tile, columns, params.begin + begin, params.begin + end);
  });
}

template <typename T>
void deform_columns_backward_cpu(const LpsDeformColumnsParams& params, const T* input, const T* offset, const T* mask,
                                 const T* grad_columns, T* grad_input, T* grad_offset, T* grad_mask) {
  const std::vector<T> zeros(params.channels);
  const Tile<T> tile{{params, input, offset, mask}, zeros.data()};
  parallel_for(params.end - params.begin, kPositionGrain, [&](int64_t begin, int64_t end) {
    offset_gradients_clones(tile, grad_columns, grad_offset, grad_mask, params.begin + begin, params.begin + end);
  });
  parallel_for(params.channels, kChannelGrain,
               [&](int64_t begin, int64_t end) { scatter_clones(tile, grad_columns, grad_input, begin, end); });
}

template void deform_columns_cpu(const LpsDeformColumnsParams&, const float*, const float*, const float*, float*);
template void deform_columns_cpu(const LpsDeformColumnsParams&, const double*, const double*, const double*, double*);
template void deform_columns_backward_cpu(const LpsDeformColumnsParams&, const float*, const float*, const float*,
                                          const float*, float*, float*, float*);
template void deform_columns_backward_cpu(const LpsDeformColumnsParams&, const double*, const double*, const double*,
                                          const double*, double*, double*, double*);

}  // namespace lps
