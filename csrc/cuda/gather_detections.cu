#include "cuda/gather_detections.h"

#include "cuda/launch.cuh"

namespace lps {
namespace {

constexpr int kThreads = 256;

__global__ void gather(Candidates from, const int32_t* kept, const int32_t* num_kept, int32_t max_detections,
                       Box* boxes, float* scores, int32_t* labels, int32_t* levels) {
  const int i = static_cast<int>(global_thread());
  if (i >= max_detections) return;
  const bool filled = i < *num_kept;
  boxes[i] = filled ? from.boxes[kept[i]] : Box{0.f, 0.f, 0.f, 0.f};
  scores[i] = filled ? from.scores[kept[i]] : 0.f;
  labels[i] = filled ? from.labels[kept[i]] : -1;
  levels[i] = filled ? from.levels[kept[i]] : -1;
}

__global__ void invert(const uint8_t* is_thing, int32_t num_classes, uint8_t* is_stuff) {
  const int i = static_cast<int>(global_thread());
  if (i < num_classes) is_stuff[i] = !is_thing[i];
}

}  // namespace

void gather_detections_cuda(void* stream, const Candidates& from, const int32_t* kept, const int32_t* num_kept,
                            int32_t max_detections, Box* boxes, float* scores, int32_t* labels, int32_t* levels) {
  launch(static_cast<cudaStream_t>(stream), blocks_for(max_detections, kThreads), kThreads, 0, gather, from, kept,
         num_kept, max_detections, boxes, scores, labels, levels);
}

void invert_flags_cuda(void* stream, const uint8_t* is_thing, int32_t num_classes, uint8_t* is_stuff) {
  launch(static_cast<cudaStream_t>(stream), blocks_for(num_classes, kThreads), kThreads, 0, invert, is_thing,
         num_classes, is_stuff);
}

}  // namespace lps
