// Where the pixels of the output lie in the coordinates of a map that is read at them.
#pragma once
#include "core/host_device.h"

namespace lps {

// The centre of a pixel, in the units that `scale` counts per pixel. Never decreases from a pixel to the next.
LPS_HOST_DEVICE float pixel_centre(int pixel, float scale) { return (static_cast<float>(pixel) + 0.5f) * scale; }

// How many of the pixels 0 .. size - 1 have their centre below `bound`: the first pixel at or after it.
LPS_HOST_DEVICE int pixels_below(float bound, float scale, int size) {
  int low = 0, high = size;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (pixel_centre(middle, scale) < bound)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

}  // namespace lps
