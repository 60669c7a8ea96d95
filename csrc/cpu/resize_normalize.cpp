#include "cpu/resize_normalize.h"

#include <algorithm>
#include <vector>

#include "core/dtype.h"
#include "core/resample.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace lps {
namespace {

// Values of a row that are blended at once, small enough for the first-level cache.
constexpr int64_t kBlock = 512;
// A piece of work has about so many values.
constexpr int64_t kGrain = 1 << 16;

// The windows of all output pixels of an axis, made equally long with weights of 0.
struct Axis {
  Axis(int in_size, int out_size) : taps(0), begins(out_size) {
    for (int i = 0; i < out_size; ++i) {
      const ResampleWindow window = resample_window(i, in_size, out_size);
      taps = std::max(taps, window.end - window.begin);
    }
    weights.assign(static_cast<size_t>(out_size) * taps, 0.f);
    for (int i = 0; i < out_size; ++i) {
      const ResampleWindow window = resample_window(i, in_size, out_size);
      begins[i] = std::min(window.begin, in_size - taps);
      double sum = 0;
      for (int pixel = window.begin; pixel < window.end; ++pixel) sum += window.weight(pixel);
      for (int pixel = window.begin; pixel < window.end; ++pixel)
        weights[static_cast<size_t>(i) * taps + pixel - begins[i]] = static_cast<float>(window.weight(pixel) / sum);
    }
  }

  const float* weights_of(int i) const { return weights.data() + static_cast<size_t>(i) * taps; }

  int taps;
  std::vector<int> begins;
  std::vector<float> weights;  // [out_size, taps]
};

// The vertical pass: `count` values of one output row from `taps` input rows.
LPS_SIMD_CLONES void blend_rows(const uint8_t* rows, int64_t row_stride, const float* weights, int taps, int64_t count,
                                float* out) {
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t size = std::min(kBlock, count - begin);
    float sum[kBlock] = {};
    for (int t = 0; t < taps; ++t) {
      const uint8_t* row = rows + t * row_stride + begin;
      const float weight = weights[t];
      for (int64_t k = 0; k < size; ++k) sum[k] += weight * static_cast<float>(row[k]);
    }
    std::copy(sum, sum + size, out + begin);
  }
}

// The horizontal pass over interleaved pixels. A fourth value goes along with the three channels, so that a pixel is
// one vector: `row` and `out` have one value more than 3 a pixel, and that of a pixel is overwritten by the next one.
LPS_SIMD_CLONES void blend_columns(const float* row, const int* begins, const float* weights, int taps, int width,
                                   float* out) {
  for (int i = 0; i < width; ++i, weights += taps) {
    const float* pixel = row + 3 * static_cast<int64_t>(begins[i]);
    float sum[4] = {};
    for (int t = 0; t < taps; ++t, pixel += 3)
      for (int c = 0; c < 4; ++c) sum[c] += weights[t] * pixel[c];
    std::copy(sum, sum + 4, out + 3 * static_cast<int64_t>(i));
  }
}

// One channel of a row: subtracts the mean and divides by the standard deviation.
template <int out_step, typename T>
LPS_SIMD_CLONES void normalize(const float* row, int width, float mean, float std, T* out) {
  for (int64_t i = 0; i < width; ++i) out[i * out_step] = narrow<T>((row[3 * i] - mean) / std);
}

template <typename T>
void resize_normalize(const LpsResizeNormalizeParams& p, const uint8_t* image, T* out) {
  const Axis vertical(p.in_height, p.resized_height), horizontal(p.in_width, p.resized_width);
  const int64_t row_size = 3 * static_cast<int64_t>(p.out_width);
  const int64_t plane = static_cast<int64_t>(p.out_height) * p.out_width;

  const auto write_row = [&](int64_t y, float* blended, float* resized) {
    if (y < p.resized_height) {
      blend_rows(image + vertical.begins[y] * p.in_row_stride, p.in_row_stride, vertical.weights_of(y), vertical.taps,
                 3 * static_cast<int64_t>(p.in_width), blended);
      blend_columns(blended, horizontal.begins.data(), horizontal.weights.data(), horizontal.taps, p.resized_width,
                    resized);
    }
    const int width = y < p.resized_height ? p.resized_width : 0;
    for (int c = 0; c < 3; ++c) {
      const float* channel = resized + (p.reverse_channels ? 2 - c : c);
      if (p.channels_last) {
        normalize<3>(channel, width, p.mean[c], p.std[c], out + y * row_size + c);
      } else {
        T* row = out + c * plane + y * p.out_width;
        normalize<1>(channel, width, p.mean[c], p.std[c], row);
        std::fill(row + width, row + p.out_width, T{});
      }
    }
    if (p.channels_last) std::fill(out + y * row_size + 3 * width, out + (y + 1) * row_size, T{});
  };

  // Two rows for each piece of work, all of them taken here: a body must not throw.
  const int64_t blended_size = 3 * static_cast<int64_t>(p.in_width) + 1;
  const int64_t resized_size = 3 * static_cast<int64_t>(p.resized_width) + 1;
  const int64_t work = std::max(blended_size * vertical.taps, resized_size * horizontal.taps);
  const int64_t rows = std::max({int64_t{1}, kGrain / work, p.out_height / (int64_t{8} * num_threads())});
  const int64_t pieces = (p.out_height + rows - 1) / rows;
  std::vector<float> scratch(pieces * (blended_size + resized_size));
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      float* blended = scratch.data() + piece * (blended_size + resized_size);
      for (int64_t y = piece * rows; y < std::min<int64_t>(p.out_height, (piece + 1) * rows); ++y)
        write_row(y, blended, blended + blended_size);
    }
  });
}

}  // namespace

void resize_normalize_cpu(const LpsResizeNormalizeParams& params, const uint8_t* image, void* out) {
  with_dtype(params.out_dtype,
             [&](auto number) { resize_normalize(params, image, static_cast<decltype(number)*>(out)); });
}

}  // namespace lps
