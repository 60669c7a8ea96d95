#include "cpu/decode.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/decode.h"
#include "core/order.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace lps {
namespace {

// Neighbouring locations of a row are worked on together: at most so many in a tile, so many in a vector.
constexpr int kTile = 64, kLanes = 16;
// Classes lie far apart in memory, so those this far ahead are asked for early.
constexpr int kPrefetchClasses = 2;
// A task has at least so many locations, and there are about so many tasks a thread.
constexpr int64_t kTaskLocations = 2048, kTasksPerThread = 8;

struct Inputs {
  const LpsDecodeParams& params;
  const float* logits;
  const uint8_t* is_thing;
  const float* const* ltrb;
  const float* const* borderness;

  Box ltrb_at(int level, int64_t location) const {
    const int64_t plane = static_cast<int64_t>(params.levels.height[level]) * params.levels.width[level];
    const float* at = ltrb[level] + location;
    return {at[0], at[plane], at[2 * plane], at[3 * plane]};
  }
};

// Locations of one row and the columns of the logits that they read. The last vector is filled up with the last column.
// Where the locations of a vector read columns `step` apart, which is the rule, their loads are regular.
struct Columns {
  int count, num_vectors;
  int low[kTile], high[kTile];
  float weight[kTile];
  int step[kTile / kLanes];  // 0: irregular
};

int step_of(const int* low, const int* high) {
  const int step = low[1] - low[0];
  for (int j = 0; j < kLanes; ++j)
    if (low[j] != low[0] + j * step || high[j] != low[j] + 1) return 0;
  return step;
}

// What is known of those locations.
struct Tile {
  std::vector<float> logits;                        // [num_classes, kTile]
  float largest[kTile], lowest[kTile], sum[kTile];  // of the logits; that may pass; of the exponentials
};

template <int step>
inline void read_regular(const float* top, const float* bottom, const float* weight, float row_weight, float* out) {
  for (int j = 0; j < kLanes; ++j)
    out[j] = lerp(lerp(top[step * j], top[step * j + 1], weight[j]),
                  lerp(bottom[step * j], bottom[step * j + 1], weight[j]), row_weight);
}

inline void read_vector(const float* top, const float* bottom, const Columns& columns, int v, float row_weight,
                        float* out) {
  const int *low = columns.low + v * kLanes, *high = columns.high + v * kLanes;
  const float* weight = columns.weight + v * kLanes;
  if (columns.step[v] == 2) return read_regular<2>(top + low[0], bottom + low[0], weight, row_weight, out);
  if (columns.step[v] == 4) return read_regular<4>(top + low[0], bottom + low[0], weight, row_weight, out);
  for (int j = 0; j < kLanes; ++j)
    out[j] =
        lerp(lerp(top[low[j]], top[high[j]], weight[j]), lerp(bottom[low[j]], bottom[high[j]], weight[j]), row_weight);
}

// Reads the logits bilinearly. Returns whether any thing class may pass the threshold.
LPS_SIMD_CLONES bool read_logits(const Inputs& in, const LinearTap& row, const Columns& columns, float log_threshold,
                                 Tile& tile) {
  const int width = in.params.logits_width, used = columns.num_vectors * kLanes;
  const int64_t plane = static_cast<int64_t>(in.params.logits_height) * width;
  float largest[kTile], largest_thing[kTile];
  for (int j = 0; j < used; ++j) largest[j] = largest_thing[j] = -INFINITY;
  for (int c = 0; c < in.params.num_classes; ++c) {
    const float* top = in.logits + c * plane + static_cast<int64_t>(row.low) * width;
    const float* bottom = in.logits + c * plane + static_cast<int64_t>(row.high) * width;
    float* logits = tile.logits.data() + static_cast<int64_t>(c) * kTile;
    if (c + kPrefetchClasses < in.params.num_classes)
      for (int column = columns.low[0]; column <= columns.high[used - 1]; column += kLanes) {
        prefetch(top + kPrefetchClasses * plane + column);
        prefetch(bottom + kPrefetchClasses * plane + column);
      }
    for (int v = 0; v < columns.num_vectors; ++v) {
      float value[kLanes];
      read_vector(top, bottom, columns, v, row.weight, value);
      for (int j = 0; j < kLanes; ++j) {
        const float before = largest[v * kLanes + j];
        largest[v * kLanes + j] = value[j] > before ? value[j] : before;
        logits[v * kLanes + j] = value[j];
      }
    }
    if (in.is_thing[c])
      for (int j = 0; j < used; ++j) largest_thing[j] = logits[j] > largest_thing[j] ? logits[j] : largest_thing[j];
  }
  int any = 0;
  for (int j = 0; j < used; ++j) {
    tile.largest[j] = largest[j];
    tile.lowest[j] = lowest_logit(largest[j], log_threshold);
    any |= largest_thing[j] >= tile.lowest[j];
  }
  return any;
}

// A logit that is NaN makes the sum of its location NaN, and no probability passes there.
LPS_SIMD_CLONES void sum_exponentials(int num_classes, int num_vectors, Tile& tile) {
  for (int v = 0; v < num_vectors; ++v) {
    float sum[kLanes] = {};
    const float *logits = tile.logits.data() + v * kLanes, *largest = tile.largest + v * kLanes;
    for (int c = 0; c < num_classes; ++c, logits += kTile)
      for (int j = 0; j < kLanes; ++j) sum[j] += exp_of_nonpositive(logits[j] - largest[j]);
    std::copy(sum, sum + kLanes, tile.sum + v * kLanes);
  }
}

LPS_SIMD_CLONES bool any_reaches(const float* logits, const float* lowest, int num_vectors) {
  int any = 0;
  for (int j = 0; j < num_vectors * kLanes; ++j) any |= logits[j] >= lowest[j];
  return any;
}

void keep_best(std::vector<uint64_t>& keys, size_t topk) {
  if (keys.size() <= topk) return;
  std::nth_element(keys.begin(), keys.begin() + topk, keys.end());
  keys.resize(topk);
}

// Some rows of a level: finds the best candidates in them, as keys of score and location * num_classes + class.
class Task {
 public:
  // All memory is taken here: run() is called from threads and must not throw.
  Task(const Inputs& in, int level, int row_begin, int row_end)
      : in_(in), level_(level), row_begin_(row_begin), row_end_(row_end) {
    const LpsDecodeParams& p = in.params;
    const int64_t num_things = std::count_if(in.is_thing, in.is_thing + p.num_classes, [](uint8_t t) { return t; });
    const int64_t locations = static_cast<int64_t>(row_end - row_begin) * p.levels.width[level];
    keys_.reserve(std::min(2 * static_cast<int64_t>(p.topk) + num_things * kTile, num_things * locations));
    tile_.logits.resize(static_cast<size_t>(p.num_classes) * kTile);
  }

  void run(float log_threshold) {
    const LpsDecodeParams& p = in_.params;
    const int width = p.levels.width[level_], stride = p.levels.stride[level_];
    Columns columns;
    for (int i = row_begin_; i < row_end_ && point_of(i, stride) < p.image_height; ++i) {
      const LinearTap row = linear_tap(point_of(i, stride) / p.logits_stride, p.logits_height);
      for (int j = 0; j < width && point_of(j, stride) < p.image_width; j += kTile) {
        take_columns(j, columns);
        if (!read_logits(in_, row, columns, log_threshold, tile_)) continue;
        sum_exponentials(p.num_classes, columns.num_vectors, tile_);
        find_candidates(static_cast<int64_t>(i) * width + j, columns);
      }
    }
    keep_best(keys_, p.topk);
  }

  int level() const { return level_; }
  const std::vector<uint64_t>& keys() const { return keys_; }

 private:
  void take_columns(int begin, Columns& columns) const {
    const LpsDecodeParams& p = in_.params;
    const int end = std::min(p.levels.width[level_], begin + kTile), stride = p.levels.stride[level_];
    int count = 0;
    while (begin + count < end && point_of(begin + count, stride) < p.image_width) ++count;
    columns.count = count;
    columns.num_vectors = (count + kLanes - 1) / kLanes;
    for (int j = 0; j < columns.num_vectors * kLanes; ++j) {
      const float x = point_of(begin + std::min(j, count - 1), stride);
      const LinearTap tap = linear_tap(x / p.logits_stride, p.logits_width);
      columns.low[j] = tap.low, columns.high[j] = tap.high, columns.weight[j] = tap.weight;
    }
    for (int v = 0; v < columns.num_vectors; ++v)
      columns.step[v] = step_of(columns.low + v * kLanes, columns.high + v * kLanes);
  }

  void find_candidates(int64_t first_location, const Columns& columns) {
    const LpsDecodeParams& p = in_.params;
    for (int c = 0; c < p.num_classes; ++c) {
      const float* logits = tile_.logits.data() + static_cast<int64_t>(c) * kTile;
      if (!in_.is_thing[c] || !any_reaches(logits, tile_.lowest, columns.num_vectors)) continue;
      for (int j = 0; j < columns.count; ++j) {
        if (!(logits[j] >= tile_.lowest[j])) continue;
        const float probability = probability_of(logits[j], tile_.largest[j], tile_.sum[j]);
        if (!(probability > p.score_threshold)) continue;
        const int64_t location = first_location + j;
        const float score =
            fused_score(probability, in_.borderness[level_][location], p.score_fusion == LPS_SCORE_SQRT);
        if (is_finite(score) && is_finite(in_.ltrb_at(level_, location)))
          keys_.push_back(descending_key(score, static_cast<uint32_t>(location * p.num_classes + c)));
      }
    }
    // Leaves room for the next tile.
    if (keys_.size() > 2 * static_cast<size_t>(p.topk)) keep_best(keys_, p.topk);
  }

  const Inputs& in_;
  const int level_, row_begin_, row_end_;
  Tile tile_;
  std::vector<uint64_t> keys_;
};

std::vector<Task> make_tasks(const Inputs& in) {
  const LpsLevels& levels = in.params.levels;
  int64_t locations = 0;
  for (int l = 0; l < levels.num_levels; ++l) locations += static_cast<int64_t>(levels.height[l]) * levels.width[l];
  const int64_t wanted = std::max(kTaskLocations, locations / (kTasksPerThread * num_threads()));
  std::vector<Task> tasks;
  for (int l = 0; l < levels.num_levels; ++l) {
    const int rows = static_cast<int>(std::max<int64_t>(1, wanted / levels.width[l]));
    for (int i = 0; i < levels.height[l]; i += rows)
      tasks.emplace_back(in, l, i, i + std::min(rows, levels.height[l] - i));
  }
  return tasks;
}

}  // namespace

void decode_cpu(const LpsDecodeParams& params, const float* logits, const uint8_t* is_thing, const float* const* ltrb,
                const float* const* borderness, float* boxes, float* scores, int32_t* labels, int32_t* box_levels,
                int32_t* num_boxes) {
  const Inputs in{params, logits, is_thing, ltrb, borderness};
  std::vector<Task> tasks = make_tasks(in);
  const float log_threshold = std::log(params.score_threshold);
  parallel_for(tasks.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) tasks[t].run(log_threshold);
  });

  int32_t count = 0;
  std::vector<uint64_t> best;
  for (int l = 0; l < params.levels.num_levels; ++l) {
    best.clear();
    for (const Task& task : tasks)
      if (task.level() == l) best.insert(best.end(), task.keys().begin(), task.keys().end());
    keep_best(best, params.topk);
    std::sort(best.begin(), best.end());
    const int width = params.levels.width[l], stride = params.levels.stride[l];
    for (const uint64_t key : best) {
      const int location = index_of(key) / params.num_classes;
      const float y = point_of(location / width, stride), x = point_of(location % width, stride);
      const Box box = box_around(x, y, in.ltrb_at(l, location), params.image_width, params.image_height);
      std::copy_n(&box.x1, 4, boxes + 4 * static_cast<int64_t>(count));
      scores[count] = score_of(key);
      labels[count] = index_of(key) % params.num_classes;
      box_levels[count++] = l;
    }
  }
  const int64_t size = static_cast<int64_t>(params.levels.num_levels) * params.topk;
  std::fill(boxes + 4 * static_cast<int64_t>(count), boxes + 4 * size, 0.f);
  std::fill(scores + count, scores + size, 0.f);
  std::fill(labels + count, labels + size, -1);
  std::fill(box_levels + count, box_levels + size, -1);
  *num_boxes = count;
}

}  // namespace lps
