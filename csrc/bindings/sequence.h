// SPDX-License-Identifier: Apache-2.0
// The steps of an op_sequence, and how they are to run for inputs of given shapes.
#pragma once

#include "bindings/step.h"

namespace sknet_ops::glue {

struct Link {
  std::unique_ptr<Step> step;
  std::vector<int> operands;  // values
};

// The first output of a step, or a further one: its shape, and where it lies.
struct Result {
  Dims dims;
  int64_t offset;  // floats from the start of the memory
};

struct Plan {
  std::vector<Dims> outside;                 // the shapes that it is for
  std::vector<std::vector<Result>> results;  // of each step
  int64_t images = 0;
  int64_t together = 0;  // images at a time in the first `apart` steps
  size_t apart = 0;
  std::vector<bool> whole;  // of each step, whether its place is for all images
  int64_t floats = 0;       // of the memory
};

// Values are numbered: those from outside from 0 on, then the first output of each step.
struct Sequence {
  int outside;
  std::vector<Link> links;

  // Shapes of all that the steps make; dimensions may be unknown.
  std::vector<std::vector<Result>> results_of(const std::vector<Dims>& shapes) const;
  // With a place for every result but the last step's first, which is the op's output.
  Plan plan_for(std::vector<Dims> shapes) const;

 private:
  size_t steps_apart(const Plan& plan) const;
};

int64_t size(const Dims& dims);

}  // namespace sknet_ops::glue
