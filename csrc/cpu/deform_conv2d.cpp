// Tiles of positions: the samples of a kernel tap are gathered, in float, and multiplied by the tap's weights.
#include "cpu/deform_conv2d.h"

#include <algorithm>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace lps {
namespace {

constexpr int kTile = 32;      // positions
constexpr int kPositions = 4;  // at a time, with
constexpr int kOutputs = 32;   // outputs: their sums stay in registers, which GCC finds with 32 and not with 16
constexpr int64_t kTileGrain = 2;

// [out_channels, depth] to float [out_channels / kOutputs, depth, kOutputs], with zeros for outputs that do not exist.
template <typename T>
std::vector<float> pack(const T* weight, int64_t out_channels, int64_t depth) {
  std::vector<float> packed((out_channels + kOutputs - 1) / kOutputs * depth * kOutputs);
  for (int64_t o = 0; o < out_channels; ++o)
    for (int64_t k = 0; k < depth; ++k)
      packed[(o / kOutputs * depth + k) * kOutputs + o % kOutputs] = widen(weight[o * depth + k]);
  return packed;
}

// Inlined into the function with LPS_SIMD_CLONES that calls it, so that it is vectorised for each processor.
template <typename T>
[[gnu::always_inline]] inline void blend(const float (&weight)[4], const T* const (&corner)[4], int count, float* out) {
  for (int c = 0; c < count; ++c)
    out[c] = widen(narrow<T>(deform_blend_contracted(weight, widen(corner[0][c]), widen(corner[1][c]),
                                                     widen(corner[2][c]), widen(corner[3][c]))));
}
LPS_SIMD_CLONES void blend_clones(const float (&weight)[4], const float* const (&corner)[4], int count, float* out) {
  blend(weight, corner, count, out);
}
LPS_SIMD_CLONES void blend_clones(const float (&weight)[4], const Float16* const (&corner)[4], int count, float* out) {
  blend(weight, corner, count, out);
}
LPS_SIMD_CLONES void blend_clones(const float (&weight)[4], const BFloat16* const (&corner)[4], int count, float* out) {
  blend(weight, corner, count, out);
}

// sums [kTile, kOutputs] += samples [kTile, depth] by weights [depth, kOutputs]
LPS_SIMD_CLONES void multiply(const float* samples, const float* weights, int depth, float* sums) {
  for (int first = 0; first < kTile; first += kPositions) {
    float sum[kPositions][kOutputs];
    for (int p = 0; p < kPositions; ++p)
      for (int o = 0; o < kOutputs; ++o) sum[p][o] = sums[(first + p) * kOutputs + o];
    for (int k = 0; k < depth; ++k)
      for (int p = 0; p < kPositions; ++p)
        for (int o = 0; o < kOutputs; ++o) sum[p][o] += samples[(first + p) * depth + k] * weights[k * kOutputs + o];
    for (int p = 0; p < kPositions; ++p)
      for (int o = 0; o < kOutputs; ++o) sums[(first + p) * kOutputs + o] = sum[p][o];
  }
}

template <typename T>
struct Problem {
  const DeformConv2d& conv;
  const T* input;
  std::vector<float> weights;
  const float* bias;
  T* out;
  std::vector<T> zeros;  // what a corner that is not live reads

  // The samples [channels] of a kernel tap of a position.
  void gather(int64_t position, int tap_y, int tap_x, float* samples) const {
    const LpsDeformConv2dParams& p = conv.params;
    const int n = static_cast<int>(position / conv.image_positions());
    const int within = static_cast<int>(position % conv.image_positions());
    const int channels = conv.group_channels();
    for (int group = 0; group < p.offset_groups; ++group) {
      const DeformTap tap = conv.tap(n, group, tap_y, tap_x, within / p.out_width, within % p.out_width);
      const T* corner[4];
      for (int i = 0; i < 4; ++i)
        corner[i] = tap.live >> i & 1u
                        ? input + static_cast<int64_t>(conv.corner_pixel(tap, i)) * p.channels + group * channels
                        : zeros.data();
      blend_clones(tap.weight, corner, channels, samples + group * channels);
    }
  }

  void tile(int64_t first, int count, std::vector<float>& samples, std::vector<float>& sums) const {
    const LpsDeformConv2dParams& p = conv.params;
    const int64_t depth = static_cast<int64_t>(conv.num_taps()) * p.channels;
    const int blocks = (p.out_channels + kOutputs - 1) / kOutputs;
    std::fill(sums.begin(), sums.end(), 0.f);
    for (int tap = 0; tap < conv.num_taps(); ++tap) {
      for (int i = 0; i < count; ++i)
        gather(first + i, tap / p.kernel_w, tap % p.kernel_w, samples.data() + static_cast<int64_t>(i) * p.channels);
      for (int block = 0; block < blocks; ++block)
        multiply(samples.data(), weights.data() + (block * depth + static_cast<int64_t>(tap) * p.channels) * kOutputs,
                 p.channels, sums.data() + block * kTile * kOutputs);
    }
    for (int i = 0; i < count; ++i) {
      for (int o = 0; o < p.out_channels; ++o) {
        const float sum = sums[(o / kOutputs * kTile + i) * kOutputs + o % kOutputs];
        out[(first + i) * p.out_channels + o] = narrow<T>(bias ? sum + bias[o] : sum);
      }
    }
  }
};

}  // namespace

template <typename T>
void deform_conv2d_cpu(const DeformConv2d& conv, const T* input, const T* weight, const float* bias, T* out) {
  const LpsDeformConv2dParams& p = conv.params;
  const int64_t depth = static_cast<int64_t>(conv.num_taps()) * p.channels,
                positions = conv.image_positions() * p.batch;
  const Problem<T> problem{conv, input, pack(weight, p.out_channels, depth),
                           bias, out,   std::vector<T>(conv.group_channels())};
  parallel_for((positions + kTile - 1) / kTile, kTileGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> samples(static_cast<int64_t>(kTile) * p.channels);
    std::vector<float> sums((p.out_channels + kOutputs - 1) / kOutputs * kOutputs * kTile);
    for (int64_t i = begin; i < end; ++i)
      problem.tile(i * kTile, static_cast<int>(std::min<int64_t>(kTile, positions - i * kTile)), samples, sums);
  });
}

template void deform_conv2d_cpu(const DeformConv2d&, const float*, const float*, const float*, float*);
template void deform_conv2d_cpu(const DeformConv2d&, const Float16*, const Float16*, const float*, Float16*);
template void deform_conv2d_cpu(const DeformConv2d&, const BFloat16*, const BFloat16*, const float*, BFloat16*);

}  // namespace lps
