// Any dtype, any sizes, any alignment, on the ordinary cores. A block makes a tile of positions x output channels; both
// factors of a slice of the sum lie in shared memory.
#include "cuda/deform_conv2d.h"

#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 256;
constexpr int kPositions = 64, kOutputs = 128, kSlice = 16;  // of the tile, and channels in a slice
constexpr int kThreadPositions = 8, kThreadOutputs = 4;      // what a thread adds up
constexpr int kOutputThreads = kOutputs / kThreadOutputs;
static_assert(kPositions / kThreadPositions * kOutputThreads == kThreads);

struct Shared {
  float samples[kSlice][kPositions + 4];
  float weights[kSlice][kOutputs + 4];
  DeformTap taps[kPositions];
};

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    deform_conv2d_any(DeformConv2d conv, const T* input, const T* weight, const float* bias, T* out) {
  Shared& shared = *dynamic_shared<Shared>();
  const int thread = static_cast<int>(threadIdx.x);
  const LpsDeformConv2dParams& params = conv.params;
  const int64_t first_position = static_cast<int64_t>(blockIdx.x) * kPositions;
  const int64_t num_positions = conv.image_positions() * params.batch;
  const int first_output = static_cast<int>(blockIdx.y) * kOutputs;
  const int num_taps = conv.num_taps(), group_channels = conv.group_channels();
  const int my_position = thread / kOutputThreads * kThreadPositions, my_output = thread % kOutputThreads;

  // Of the position whose samples this thread finds.
  const bool finds = thread < kPositions && first_position + thread < num_positions;
  const int n = static_cast<int>((first_position + thread) / conv.image_positions());
  const int within = static_cast<int>((first_position + thread) % conv.image_positions());

  float sum[kThreadPositions][kThreadOutputs] = {};
  for (int segment = 0; segment < params.offset_groups * num_taps; ++segment) {
    const int group = segment / num_taps, tap = segment % num_taps;
    __syncthreads();
    if (finds)
      shared.taps[thread] = conv.tap(n, group, tap / params.kernel_w, tap % params.kernel_w, within / params.out_width,
                                     within % params.out_width);
    for (int slice = 0; slice < group_channels; slice += kSlice) {
      __syncthreads();
      for (int i = thread; i < kPositions * kSlice; i += kThreads) {
        const int position = i / kSlice, k = i % kSlice;
        const bool exists = first_position + position < num_positions && slice + k < group_channels;
        shared.samples[k][position] =
            exists ? widen(deform_value(conv, shared.taps[position], input, group * group_channels + slice + k)) : 0.f;
      }
      for (int i = thread; i < kOutputs * kSlice; i += kThreads) {
        const int output = i / kSlice, k = i % kSlice;
        const bool exists = first_output + output < params.out_channels && slice + k < group_channels;
        const int64_t row = static_cast<int64_t>(first_output + output) * num_taps + tap;
        shared.weights[k][output] =
            exists ? widen(weight[row * params.channels + group * group_channels + slice + k]) : 0.f;
      }
      __syncthreads();
      for (int k = 0; k < kSlice; ++k) {
        float sample[kThreadPositions], factor[kThreadOutputs];
        for (int p = 0; p < kThreadPositions; ++p) sample[p] = shared.samples[k][my_position + p];
        for (int o = 0; o < kThreadOutputs; ++o) factor[o] = shared.weights[k][my_output + o * kOutputThreads];
        for (int p = 0; p < kThreadPositions; ++p)
          for (int o = 0; o < kThreadOutputs; ++o) sum[p][o] = __fmaf_rn(sample[p], factor[o], sum[p][o]);
      }
    }
  }
  for (int p = 0; p < kThreadPositions; ++p) {
    for (int o = 0; o < kThreadOutputs; ++o) {
      const int64_t position = first_position + my_position + p;
      const int output = first_output + my_output + o * kOutputThreads;
      if (position < num_positions && output < params.out_channels)
        out[position * params.out_channels + output] = narrow<T>(bias ? sum[p][o] + bias[output] : sum[p][o]);
    }
  }
}

bool at_16_bytes(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <typename T>
bool tensor_cores_can(const DeformConv2d& conv, const T* input, const T* weight) {
  if (sizeof(T) != 2 || conv.group_channels() % 8 != 0 || !at_16_bytes(input) || !at_16_bytes(weight)) return false;
  // An int32 addresses the input in vectors of 8 numbers, a row and a pixel beyond its end too.
  const LpsDeformConv2dParams& p = conv.params;
  const int64_t pixels = (static_cast<int64_t>(p.batch) * p.height + 1) * p.width + 1;
  if (pixels * (p.channels / 8) > INT32_MAX) return false;
  if (conv.params.dtype == LPS_FLOAT16) return true;
  int device = 0, major = 0;
  check_cuda(cudaGetDevice(&device), "the current device");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "the compute capability");
  return major >= 8;
}

}  // namespace

template <typename T>
void deform_conv2d_cuda(const DeformConv2d& conv, void* stream, const T* input, const T* weight, const float* bias,
                        T* out) {
  if constexpr (sizeof(T) == 2)
    if (tensor_cores_can(conv, input, weight))
      return deform_conv2d_tensor_cores(conv, stream, input, weight, bias, out);
  const dim3 grid(blocks_for(conv.image_positions() * conv.params.batch, kPositions),
                  blocks_for(conv.params.out_channels, kOutputs));
  launch(static_cast<cudaStream_t>(stream), grid, kThreads, sizeof(Shared), deform_conv2d_any<T>, conv, input, weight,
         bias, out);
}

template void deform_conv2d_cuda(const DeformConv2d&, void*, const float*, const float*, const float*, float*);
template void deform_conv2d_cuda(const DeformConv2d&, void*, const Float16*, const Float16*, const float*, Float16*);
template void deform_conv2d_cuda(const DeformConv2d&, void*, const BFloat16*, const BFloat16*, const float*, BFloat16*);

}  // namespace lps
