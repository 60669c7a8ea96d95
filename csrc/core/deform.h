// Where a deformable convolution samples its input. Unlike in bilinear.h, pixel (i, j) is at (i, j), as torchvision
// and ONNX have it, and the image is zero outside.
#pragma once
#include "core/host_device.h"

namespace lps {

// Input coordinate, along one axis, of a kernel tap of an output position before its offset.
LPS_HOST_DEVICE int deform_base(int position, int tap, int stride, int padding, int dilation) {
  return position * stride - padding + tap * dilation;
}

// A bilinear read between the corners (top, left) .. (top + 1, left + 1), some of which may lie outside the image.
template <typename T>
struct DeformSample {
  bool inside;  // false: the sample is 0 and the rest has no meaning
  int top, left;
  T dy, dx;  // from the top left corner, in [0, 1]
};

// A comparison with NaN is false, and only a coordinate in range becomes an integer.
template <typename T>
LPS_HOST_DEVICE DeformSample<T> deform_sample(T y, T x, int height, int width) {
  if (!(y > T(-1) && y < static_cast<T>(height) && x > T(-1) && x < static_cast<T>(width))) return {false, 0, 0, 0, 0};
  const int top = y < T(0) ? -1 : static_cast<int>(y);
  const int left = x < T(0) ? -1 : static_cast<int>(x);
  return {true, top, left, y - static_cast<T>(top), x - static_cast<T>(left)};
}

// Corner 0 is (top, left), 1 (top, right), 2 (bottom, left), 3 (bottom, right).
template <typename T>
LPS_HOST_DEVICE T deform_corner_weight(const DeformSample<T>& s, int corner) {
  return (corner & 2 ? s.dy : T(1) - s.dy) * (corner & 1 ? s.dx : T(1) - s.dx);
}

// The pixel of a corner, row * width + column, or -1 where it lies outside.
template <typename T>
LPS_HOST_DEVICE long long deform_corner_pixel(const DeformSample<T>& s, int corner, int height, int width) {
  const int row = s.top + (corner >> 1), column = s.left + (corner & 1);
  if (row < 0 || row >= height || column < 0 || column >= width) return -1;
  return static_cast<long long>(row) * width + column;
}

// The order of these operations is part of the definition: every caller rounds alike.
template <typename T>
LPS_HOST_DEVICE T deform_blend(const T (&weight)[4], T v0, T v1, T v2, T v3) {
  return (weight[0] * v0 + weight[1] * v1) + (weight[2] * v2 + weight[3] * v3);
}

// The derivatives of a sample to y and to x, from the values of its corners.
template <typename T>
LPS_HOST_DEVICE T deform_grad_y(const DeformSample<T>& s, const T (&corner)[4]) {
  return (T(1) - s.dx) * (corner[2] - corner[0]) + s.dx * (corner[3] - corner[1]);
}

template <typename T>
LPS_HOST_DEVICE T deform_grad_x(const DeformSample<T>& s, const T (&corner)[4]) {
  return (T(1) - s.dy) * (corner[1] - corner[0]) + s.dy * (corner[3] - corner[2]);
}

}  // namespace lps
