// What a fused deformable convolution blends at a kernel tap of an output position.
#pragma once
#include "core/deform.h"
#include "core/dtype.h"

namespace lps {

// One sample; it holds for all channels of its group. A corner outside of the image, or of bilinear weight 0, has
// weight 0 and is not read, so that what is infinite or NaN there does not matter.
struct alignas(8) DeformTap {
  float weight[4];  // of the corners, with the mask in them
  int32_t pixel;    // of corner 0: (image * height + row) * width + column
  uint32_t live;    // bit i: corner i is read
};

struct DeformConv2d {
  LpsDeformConv2dParams params;
  const float *offset, *mask;

  LPS_HOST_DEVICE int num_taps() const { return params.kernel_h * params.kernel_w; }
  LPS_HOST_DEVICE int64_t image_positions() const { return static_cast<int64_t>(params.out_height) * params.out_width; }
  LPS_HOST_DEVICE int group_channels() const { return params.channels / params.offset_groups; }

  LPS_HOST_DEVICE DeformTap tap(int n, int group, int tap_y, int tap_x, int row, int column) const {
    const LpsDeformConv2dParams& p = params;
    const int64_t position = static_cast<int64_t>(row) * p.out_width + column;
    const int64_t map = (static_cast<int64_t>(n) * p.offset_groups + group) * num_taps() + tap_y * p.kernel_w + tap_x;
    const float* shift = offset + 2 * map * image_positions() + position;
    const float y = static_cast<float>(deform_base(row, tap_y, p.stride_h, p.padding_h, p.dilation_h)) + shift[0];
    const float x = static_cast<float>(deform_base(column, tap_x, p.stride_w, p.padding_w, p.dilation_w)) +
                    shift[image_positions()];
    const DeformSample<float> sample = deform_sample(y, x, p.height, p.width);
    DeformTap result{};
    if (!sample.inside) return result;
    const float mask_value = mask ? mask[map * image_positions() + position] : 1.f;
    result.pixel = (n * p.height + sample.top) * p.width + sample.left;
    for (int i = 0; i < 4; ++i) {
      const float weight = deform_corner_weight(sample, i);
      if (weight == 0.f || deform_corner_pixel(sample, i, p.height, p.width) < 0) continue;
      result.weight[i] = weight * mask_value;
      result.live |= 1u << i;
    }
    return result;
  }

  // Of corner i, if it is live, in the input's pixels.
  LPS_HOST_DEVICE int corner_pixel(const DeformTap& tap, int i) const {
    return tap.pixel + (i & 1) + (i & 2 ? params.width : 0);
  }
};

// Unlike deform_blend in deform.h, it may round a product and its sum at once: on a GPU half the instructions, where
// they count, of what is rounded to 16 bits next.
LPS_HOST_DEVICE float deform_blend_contracted(const float (&weight)[4], float v0, float v1, float v2, float v3) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(weight[3], v3, __fmaf_rn(weight[2], v2, __fmaf_rn(weight[1], v1, weight[0] * v0)));
#else
  return weight[0] * v0 + weight[1] * v1 + weight[2] * v2 + weight[3] * v3;
#endif
}

// The sample of one channel, rounded to the dtype.
template <typename T>
LPS_HOST_DEVICE T deform_value(const DeformConv2d& conv, const DeformTap& tap, const T* input, int channel) {
  float value[4] = {};
  for (int i = 0; i < 4; ++i)
    if (tap.live >> i & 1u)
      value[i] = widen(input[static_cast<int64_t>(conv.corner_pixel(tap, i)) * conv.params.channels + channel]);
  return narrow<T>(deform_blend_contracted(tap.weight, value[0], value[1], value[2], value[3]));
}

}  // namespace lps
