// SPDX-License-Identifier: Apache-2.0
// How a convolution reads its input: as "taps" over zero-padded planes.
//
// Every convolution here is  out[p] = sum over channels c and taps t of weight[c][t] * plane_c[p + offset_t],
// where p runs over whole padded rows, so that a vector of 16 positions may cross rows of a small map. The positions
// between the rows give garbage that is never stored. A stride s splits a plane into s * s phase planes; the gradient
// by the input is s * s such convolutions over the planes of the output gradient.
#pragma once

#include <cstdint>

#include "sknet_ops/params.h"

namespace sknet_ops::cpu {

inline constexpr int64_t kVectorSlack = 64;  // floats that a kernel may read past the last position

// One source plane (h, w), zero-padded, split into stride * stride phases.
struct PlaneLayout {
  int64_t h, w;            // source plane
  int64_t stride;          // phases in each direction
  int64_t step;            // rows and columns from output to output: 1 where there are phases, else the stride
  int64_t low_h, low_w;    // rows above and columns left of the source
  int64_t used_h, used_w;  // source rows and columns that are read at all
  int64_t rows, pitch;     // of one phase plane
  int64_t phase;           // floats of one phase plane
  int64_t channel;         // floats of all phases, with slack
  bool direct;             // the source itself will do: no padding, no phases
};

// The taps of one output: offsets into the layout, and which weight of the kernel each uses.
struct TapSet {
  int64_t count = 0;
  int64_t* offset = nullptr;
  int64_t* index = nullptr;
  int64_t h_out = 0, w_out = 0;
  TapSet() = default;
  ~TapSet();
  TapSet(const TapSet&) = delete;
  TapSet& operator=(const TapSet&) = delete;
};

// Forward: `branches` convolutions that share n, h, w, stride and output size, over one layout. phases: a stride
// makes them; without them output (row, column) lies at (row * pitch + column) * step.
struct ForwardPlan {
  PlaneLayout layout;
  TapSet taps[kMaxBranches];
};
void plan_forward(const ConvShape* branch, int branches, bool phases, ForwardPlan* plan);

// Gradient by the input of one convolution: one tap set per phase (row phase * stride + column phase) of dx.
struct BackwardPlan {
  PlaneLayout layout;  // of the output gradient
  int64_t stride;
  TapSet* phase = nullptr;
  BackwardPlan() = default;
  ~BackwardPlan();
  BackwardPlan(const BackwardPlan&) = delete;
  BackwardPlan& operator=(const BackwardPlan&) = delete;
};
void plan_backward(const ConvShape& conv, BackwardPlan* plan);

}  // namespace sknet_ops::cpu
