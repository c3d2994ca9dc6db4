// SPDX-License-Identifier: Apache-2.0
// Owner of what a frozen layer keeps between calls.
#pragma once

#include "sknet_ops/ops.h"

namespace sknet_ops {

class Kept {
 public:
  explicit Kept(bool wanted = true) : weights_(wanted ? make_kept_weights() : nullptr) {}
  ~Kept() { free_kept_weights(weights_); }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  KeptWeights* get() const { return weights_; }

 private:
  KeptWeights* weights_;
};

}  // namespace sknet_ops
