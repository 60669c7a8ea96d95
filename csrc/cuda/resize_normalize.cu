// The filters of both axes are computed once; then each output pixel blends its window of the image in one go.
#include "cuda/resize_normalize.h"

#include "api/workspace.h"
#include "core/dtype.h"
#include "core/resample.h"
#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 256;
constexpr int kBlockWidth = 32, kBlockHeight = 8;

// The filter of an axis: output pixel i is made of `count[i]` input pixels from `begin[i]` on.
struct Filter {
  int32_t *begin, *count;
  float* weights;  // [out_size, taps]
  int taps;

  __device__ const float* weights_of(int i) const { return weights + static_cast<int64_t>(i) * taps; }
};

// No window is longer.
int longest_window(int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double longest = 2 * (scale > 1 ? scale : 1) + 2;
  return longest < in_size ? static_cast<int>(longest) : in_size;
}

struct Workspace {
  Filter vertical, horizontal;
  size_t size;

  Workspace(const LpsResizeNormalizeParams& p, void* base) {
    Carver carver(base);
    const auto take = [&](int in_size, int out_size) {
      const int taps = longest_window(in_size, out_size);
      return Filter{carver.take<int32_t>(out_size), carver.take<int32_t>(out_size),
                    carver.take<float>(static_cast<size_t>(out_size) * taps), taps};
    };
    vertical = take(p.in_height, p.resized_height);
    horizontal = take(p.in_width, p.resized_width);
    size = carver.size();
  }
};

__device__ void make_filter(int i, int in_size, int out_size, const Filter& filter) {
  const ResampleWindow window = resample_window(i, in_size, out_size);
  double sum = 0;
  for (int pixel = window.begin; pixel < window.end; ++pixel) sum += window.weight(pixel);
  float* weights = filter.weights + static_cast<int64_t>(i) * filter.taps;
  for (int pixel = window.begin; pixel < window.end; ++pixel)
    weights[pixel - window.begin] = static_cast<float>(window.weight(pixel) / sum);
  filter.begin[i] = window.begin;
  filter.count[i] = window.end - window.begin;
}

// One thread for an output row or column.
__global__ void make_filters(LpsResizeNormalizeParams p, Filter vertical, Filter horizontal) {
  const int i = static_cast<int>(global_thread());
  if (i < p.resized_height)
    make_filter(i, p.in_height, p.resized_height, vertical);
  else if (i - p.resized_height < p.resized_width)
    make_filter(i - p.resized_height, p.in_width, p.resized_width, horizontal);
}

template <typename T>
__global__ void blend(LpsResizeNormalizeParams p, Filter vertical, Filter horizontal, const uint8_t* image, T* out) {
  const int x = blockIdx.x * kBlockWidth + threadIdx.x, y = blockIdx.y * kBlockHeight + threadIdx.y;
  if (x >= p.out_width || y >= p.out_height) return;
  float sum[3] = {0.f, 0.f, 0.f};
  const bool inside = x < p.resized_width && y < p.resized_height;
  if (inside) {
    const float *weights_y = vertical.weights_of(y), *weights_x = horizontal.weights_of(x);
    const int rows = vertical.count[y], columns = horizontal.count[x];
    const uint8_t* corner = image + vertical.begin[y] * p.in_row_stride + 3 * static_cast<int64_t>(horizontal.begin[x]);
    // Down the columns first, then along the row: the order of the sums is that of the CPU.
    for (int j = 0; j < columns; ++j) {
      float column[3] = {0.f, 0.f, 0.f};
      const uint8_t* pixel = corner + 3 * j;
      for (int i = 0; i < rows; ++i, pixel += p.in_row_stride)
        for (int c = 0; c < 3; ++c) column[c] += weights_y[i] * static_cast<float>(pixel[c]);
      for (int c = 0; c < 3; ++c) sum[c] += weights_x[j] * column[c];
    }
  }
  const int64_t plane = static_cast<int64_t>(p.out_height) * p.out_width;
  const int64_t at = static_cast<int64_t>(y) * p.out_width + x;
  for (int c = 0; c < 3; ++c) {
    const float value = inside ? (sum[p.reverse_channels ? 2 - c : c] - p.mean[c]) / p.std[c] : 0.f;
    out[p.channels_last ? 3 * at + c : c * plane + at] = narrow<T>(value);
  }
}

}  // namespace

size_t resize_normalize_cuda_workspace(const LpsResizeNormalizeParams& params) {
  return Workspace(params, nullptr).size;
}

void resize_normalize_cuda(const LpsResizeNormalizeParams& p, const LpsContext& context, const uint8_t* image,
                           void* out) {
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const Workspace w(p, context.workspace);
  const int64_t filters = static_cast<int64_t>(p.resized_height) + p.resized_width;
  launch(stream, blocks_for(filters, kThreads), kThreads, 0, make_filters, p, w.vertical, w.horizontal);
  const dim3 grid(blocks_for(p.out_width, kBlockWidth), blocks_for(p.out_height, kBlockHeight));
  with_dtype(p.out_dtype, [&](auto number) {
    using T = decltype(number);
    launch(stream, grid, dim3(kBlockWidth, kBlockHeight), 0, blend<T>, p, w.vertical, w.horizontal, image,
           static_cast<T*>(out));
  });
}

}  // namespace lps
