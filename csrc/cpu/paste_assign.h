// The second step of the panoptic head: which of the kept boxes gets each pixel.
#pragma once
#include <cstdint>
#include <vector>

#include "cpu/paste_keep.h"

namespace lps {

class PasteAssignment {
 public:
  PasteAssignment(const LpsPasteBoxesParams& params, const PasteInputs& in, const std::vector<PasteBox>& kept);

  // The owner of each pixel of row y: 1 + position among the kept boxes, or 0. `scratch` has 2 * width floats.
  void row(int y, int32_t* owner, float* scratch) const;

 private:
  struct Taps {  // of the columns of the output in the border-ness map of a level
    std::vector<int32_t> low, high;
    std::vector<float> weight;
  };

  void gaps(const PasteBox& b, int y, int begin, int end, float* out) const;

  const LpsPasteBoxesParams& params_;
  const PasteInputs& in_;
  const std::vector<PasteBox>& kept_;
  std::vector<int32_t> order_;                // in which boxes claim pixels
  std::vector<std::vector<int32_t>> rivals_;  // of each kept box: those of its class that share pixels with it
  std::vector<Taps> taps_;                    // of each level
};

}  // namespace lps
