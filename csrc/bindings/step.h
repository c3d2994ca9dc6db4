// SPDX-License-Identifier: Apache-2.0
// One op as a step of op_sequence, from the same description (mindspore_op.h) as the op's own C entries.
#pragma once

#include <memory>

#include "bindings/mindspore_op.h"

namespace sknet_ops::glue {

class Step {
 public:
  Step() = default;
  virtual ~Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  virtual const char* name() const = 0;
  virtual int inputs() const = 0;
  // Whether input `i` holds maps of the images, as the first output does, rather than weights.
  virtual bool is_map(int i) const = 0;
  virtual std::vector<Dims> infer(const Shapes& inputs) const = 0;
  virtual void run(const Shapes& inputs, void** params) const = 0;
};

template <class Op>
class StepOf final : public Step {
 public:
  explicit StepOf(mindspore::AotExtra& extra) : attrs_(Op::kName, extra) {}

  const char* name() const override { return Op::kName; }
  int inputs() const override { return Op::inputs(attrs_); }
  bool is_map(int i) const override { return Op::is_map(i); }
  std::vector<Dims> infer(const Shapes& inputs) const override { return Op::infer(attrs_, inputs); }
  void run(const Shapes& inputs, void** params) const override { Op::run(attrs_, inputs, params); }

 private:
  const typename Op::Attrs attrs_;
};

std::unique_ptr<Step> conv_bn_act_step(mindspore::AotExtra& extra);
std::unique_ptr<Step> selective_kernel_step(mindspore::AotExtra& extra);
std::unique_ptr<Step> max_pool_step(mindspore::AotExtra& extra);
std::unique_ptr<Step> pool_dense_step(mindspore::AotExtra& extra);

}  // namespace sknet_ops::glue
