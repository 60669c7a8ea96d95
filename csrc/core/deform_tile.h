// Where the arrays of a deformable convolution have what belongs to an output position and a kernel tap.
#pragma once
#include <stdint.h>

#include "core/deform.h"
#include "lpsnet.h"

namespace lps {

// Some output positions of one image.
template <typename T>
struct DeformTile {
  LpsDeformColumnsParams params;
  const T *input, *offset, *mask;

  LPS_HOST_DEVICE int64_t num_taps() const { return static_cast<int64_t>(params.kernel_h) * params.kernel_w; }
  LPS_HOST_DEVICE int64_t num_positions() const { return static_cast<int64_t>(params.out_height) * params.out_width; }
  LPS_HOST_DEVICE int64_t group_channels() const { return params.channels / params.offset_groups; }
  LPS_HOST_DEVICE int64_t mask_index(int64_t group, int64_t tap, int64_t position) const {
    return (group * num_taps() + tap) * num_positions() + position;
  }
  // Of dy; dx is num_positions() further.
  LPS_HOST_DEVICE int64_t offset_index(int64_t group, int64_t tap, int64_t position) const {
    return (group * num_taps() + tap) * 2 * num_positions() + position;
  }

  LPS_HOST_DEVICE DeformSample<T> sample(int64_t group, int64_t tap, int64_t position) const {
    const LpsDeformColumnsParams& p = params;
    const int row = static_cast<int>(position / p.out_width), column = static_cast<int>(position % p.out_width);
    const int tap_y = static_cast<int>(tap / p.kernel_w), tap_x = static_cast<int>(tap % p.kernel_w);
    const T* shift = offset + offset_index(group, tap, position);
    const T y = static_cast<T>(deform_base(row, tap_y, p.stride_h, p.padding_h, p.dilation_h)) + shift[0];
    const T x =
        static_cast<T>(deform_base(column, tap_x, p.stride_w, p.padding_w, p.dilation_w)) + shift[num_positions()];
    return deform_sample(y, x, p.height, p.width);
  }
  LPS_HOST_DEVICE T mask_value(int64_t group, int64_t tap, int64_t position) const {
    return mask ? mask[mask_index(group, tap, position)] : T(1);
  }
  // The first of all channels at a corner, or null outside.
  LPS_HOST_DEVICE const T* corner(const DeformSample<T>& s, int i) const {
    const int64_t pixel = deform_corner_pixel(s, i, params.height, params.width);
    return pixel < 0 ? nullptr : input + pixel * params.channels;
  }
};

}  // namespace lps
