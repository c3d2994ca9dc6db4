// SPDX-License-Identifier: Apache-2.0
// pool_dense     x, weight, bias (if there is one) -> y; as a step of op_sequence only
#include "bindings/step.h"

namespace sknet_ops::glue {
namespace {

struct PoolDenseAttrs {
  PoolDenseAttrs(const char* op, mindspore::AotExtra& extra) : bias(bool_attr(op, extra, "bias")) {}

  bool bias;
};

struct PoolDense {
  using Attrs = PoolDenseAttrs;
  static constexpr const char* kName = "pool_dense";
  static int inputs(const Attrs& a) { return 2 + a.bias; }
  static bool is_map(int i) { return i == 0; }

  static PoolDenseParams checked(const Attrs& a, const Shapes& in) {
    const check::TensorShape bias = a.bias ? in[2] : check::TensorShape{};
    return check::pool_dense(kName, in[0], in[1], a.bias ? &bias : nullptr);
  }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    if (known(in[0])) checked(a, in);
    return {{dim(in[0], 4, 0), dim(in[1], 2, 0)}};
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    Cursor at(params);
    PoolDenseForward<float> t{};
    t.x = at.next(), t.weight = at.next();
    if (a.bias) t.bias = at.next();
    t.y = at.next();
    active_table().pool_dense(checked(a, in), t);
  }
};

}  // namespace

std::unique_ptr<Step> pool_dense_step(mindspore::AotExtra& extra) { return std::make_unique<StepOf<PoolDense>>(extra); }

}  // namespace sknet_ops::glue
