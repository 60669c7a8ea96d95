// Bilinear resampling of one axis with an antialiasing filter: a triangle of one pixel to either side, widened by the
// scale when the axis shrinks. Positions are in double, so that long axes lose nothing.
#pragma once
#include "core/host_device.h"

namespace lps {

// The input pixels [begin, end) that make one output pixel, and the filter over them.
struct ResampleWindow {
  int begin, end;
  double centre;  // in input pixels, pixel 0 covering [0, 1)
  double radius;  // of the triangle

  // Not normalised: the weights of a window are divided by their sum.
  LPS_HOST_DEVICE double weight(int pixel) const {
    const double distance = (pixel + 0.5 - centre) / radius;
    const double height = 1.0 - (distance < 0 ? -distance : distance);
    return height > 0 ? height : 0;
  }
};

LPS_HOST_DEVICE ResampleWindow resample_window(int index, int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double centre = scale * (index + 0.5), radius = scale > 1 ? scale : 1;
  const int begin = static_cast<int>(centre - radius + 0.5), end = static_cast<int>(centre + radius + 0.5);
  return {begin < 0 ? 0 : begin, end > in_size ? in_size : end, centre, radius};
}

}  // namespace lps
