// SPDX-License-Identifier: Apache-2.0
#include "bindings/sequence.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "sknet_ops/ops.h"

namespace sknet_ops::glue {
namespace {

// Steps whose maps outweigh their weights run on a few images at a time, so that a map is still in the cache when the
// next step reads it; the others on all images, so that weights are read once. 2 a thread measured best.
constexpr int64_t kImagesPerThread = 2;
// A map that is smaller in one direction ends that: whether a convolution of dilation up to 4 is worth Winograd's way
// (suits_winograd) then hangs on the number of images, and with it the last bits.
constexpr int64_t kLeastSize = 20;

// Pieces of one memory, each for a value at a time.
class Pieces {
 public:
  int take(int64_t floats) {
    int best = -1;
    for (int i = 0; i < static_cast<int>(pieces_.size()); ++i) {
      if (pieces_[i].taken) continue;
      // One that holds it, and as tight as may be; else the largest, which then grows.
      if (best < 0 || better(pieces_[i].floats, pieces_[best].floats, floats)) best = i;
    }
    if (best < 0) {
      best = static_cast<int>(pieces_.size());
      pieces_.push_back({0, false});
    }
    pieces_[best].taken = true;
    pieces_[best].floats = std::max(pieces_[best].floats, floats);
    return best;
  }
  void give_back(int piece) { pieces_[piece].taken = false; }
  // Where each begins: on a cache line, and no two at the same place in a page, where stores would seem to overwrite
  // what loads from the other want.
  std::vector<int64_t> offsets(int64_t* floats) const {
    std::vector<int64_t> at;
    *floats = 0;
    for (const Piece& piece : pieces_) {
      at.push_back(*floats);
      *floats += (piece.floats + kPage - 1) / kPage * kPage + kShift;
    }
    return at;
  }

 private:
  struct Piece {
    int64_t floats;
    bool taken;
  };
  static constexpr int64_t kPage = 1024, kShift = 5 * 16;  // floats

  static bool better(int64_t candidate, int64_t best, int64_t wanted) {
    if ((candidate >= wanted) != (best >= wanted)) return candidate >= wanted;
    return candidate >= wanted ? candidate < best : candidate > best;
  }

  std::vector<Piece> pieces_;
};

}  // namespace

int64_t size(const Dims& dims) { return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>()); }

std::vector<std::vector<Result>> Sequence::results_of(const std::vector<Dims>& shapes) const {
  std::vector<std::vector<Result>> results;
  for (const Link& link : links) {
    std::vector<int> ndims;
    std::vector<int64_t*> dims;
    for (int value : link.operands) {
      const Dims& shape = value < outside ? shapes[value] : results[value - outside][0].dims;
      ndims.push_back(static_cast<int>(shape.size()));
      dims.push_back(const_cast<int64_t*>(shape.data()));
    }
    results.emplace_back();
    for (Dims& made : link.step->infer(Shapes(ndims.data(), dims.data()))) {
      results.back().push_back({std::move(made), 0});
    }
  }
  return results;
}

Plan Sequence::plan_for(std::vector<Dims> shapes) const {
  Plan plan;
  plan.outside = std::move(shapes);
  plan.results = results_of(plan.outside);
  plan.images = plan.results.back()[0].dims[0];
  for (const Link& link : links) {
    for (size_t o = 0; o < link.operands.size(); ++o) {
      const int value = link.operands[o];
      if (value < outside && link.step->is_map(static_cast<int>(o)) && plan.outside[value][0] != plan.images) {
        fail("op_sequence", "input " + std::to_string(value) + ": got " + std::to_string(plan.outside[value][0]) +
                                " images, expected " + std::to_string(plan.images) + " as in the others");
      }
    }
  }
  plan.together = std::max<int64_t>(1, std::min(plan.images, kImagesPerThread * cpu::num_threads()));
  if (plan.together < plan.images) plan.apart = steps_apart(plan);

  const int steps = static_cast<int>(links.size());
  std::vector<int> last_use(steps, -1);
  for (int i = 0; i < steps; ++i) {
    for (int value : links[i].operands) {
      if (value >= outside) last_use[value - outside] = i;
    }
  }
  // Of the first steps, what later ones read has to be there for all images, from the first round on.
  const int apart = static_cast<int>(plan.apart);
  const auto crosses = [&](int i) { return i < apart && last_use[i] >= apart; };
  Pieces pieces;
  std::vector<std::vector<int>> piece(steps);
  for (int i = 0; i < steps; ++i) {
    if (crosses(i)) piece[i].push_back(pieces.take(size(plan.results[i][0].dims)));
  }
  for (int i = 0; i < steps; ++i) {
    for (size_t o = piece[i].size(); o < plan.results[i].size(); ++o) {
      const int64_t all = size(plan.results[i][o].dims);
      piece[i].push_back(pieces.take(i < apart ? all / plan.images * plan.together : all));
    }
    for (size_t o = 1; o < piece[i].size(); ++o) pieces.give_back(piece[i][o]);  // nobody reads the further outputs
    for (int j = 0; j <= i; ++j) {
      if (last_use[j] == i || (j == i && last_use[j] < 0)) pieces.give_back(piece[j][0]);
    }
  }
  const std::vector<int64_t> offsets = pieces.offsets(&plan.floats);
  for (int i = 0; i < steps; ++i) {
    for (size_t o = 0; o < piece[i].size(); ++o) plan.results[i][o].offset = offsets[piece[i][o]];
    plan.whole.push_back(i >= apart || crosses(i));
  }
  return plan;
}

// How many steps, from the first on, had better run on few images at a time.
size_t Sequence::steps_apart(const Plan& plan) const {
  size_t i = 0;
  for (; i + 1 < links.size(); ++i) {
    const Dims& y = plan.results[i][0].dims;
    int64_t maps = size(y), weights = 0;
    for (size_t o = 0; o < links[i].operands.size(); ++o) {
      const int value = links[i].operands[o];
      const int64_t floats = size(value < outside ? plan.outside[value] : plan.results[value - outside][0].dims);
      (links[i].step->is_map(static_cast<int>(o)) ? maps : weights) += floats;
    }
    if (y.size() != 4 || std::min(y[2], y[3]) < kLeastSize || maps < weights * plan.images) break;
  }
  return i;
}

}  // namespace sknet_ops::glue
