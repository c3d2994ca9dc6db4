// SPDX-License-Identifier: Apache-2.0
// max_pool       x -> y
// max_pool_grad  dy, x -> dx
#include "bindings/mindspore_op.h"
#include "bindings/step.h"

namespace sknet_ops::glue {
namespace {

struct MaxPoolAttrs : mindspore::AotKernelData {
  MaxPoolAttrs(const char* op, mindspore::AotExtra& extra)
      : pool{int_attr(op, extra, "kernel"), int_attr(op, extra, "stride"), int_attr(op, extra, "padding"),
             bool_attr(op, extra, "same")} {}

  check::PoolAttrs pool;
};

struct MaxPool {
  using Attrs = MaxPoolAttrs;
  static constexpr const char* kName = "max_pool";
  static int inputs(const Attrs&) { return 1; }
  static int outputs(const Attrs&) { return 1; }
  static bool is_map(int i) { return i == 0; }
  static std::string input_name(const Attrs&, int) { return "x"; }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    if (known(in[0])) check::max_pool(kName, in[0], a.pool);
    const int64_t h = dim(in[0], 4, 2), w = dim(in[0], 4, 3);
    return {{dim(in[0], 4, 0), dim(in[0], 4, 1), h < 0 ? kUnknown : check::pool_out_size(h, a.pool),
             w < 0 ? kUnknown : check::pool_out_size(w, a.pool)}};
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const MaxPoolParams p = check::max_pool(kName, in[0], a.pool);
    Cursor at(params);
    MaxPoolForward<float> t{};
    t.x = at.next(), t.y = at.next();
    active_table().max_pool(p, t);
  }
};

struct MaxPoolGrad {
  using Attrs = MaxPoolAttrs;
  static constexpr const char* kName = "max_pool_grad";
  static int inputs(const Attrs&) { return 2; }
  static int outputs(const Attrs&) { return 1; }
  static std::string input_name(const Attrs&, int i) { return i == 0 ? "dy" : "x"; }

  static std::vector<Dims> infer(const Attrs&, const Shapes& in) { return {in.dims(1)}; }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const MaxPoolParams p = check::max_pool(kName, in[1], a.pool);
    check::same_shape(kName, "dy", in[0], {p.n, p.c, p.h_out, p.w_out});
    Cursor at(params);
    MaxPoolBackward<float> t{};
    t.dy = at.next(), t.x = at.next(), t.dx = at.next();
    active_table().max_pool_grad(p, t);
  }
};

}  // namespace

std::unique_ptr<Step> max_pool_step(mindspore::AotExtra& extra) { return std::make_unique<StepOf<MaxPool>>(extra); }

}  // namespace sknet_ops::glue

SKNET_OPS_MINDSPORE_OP(max_pool, sknet_ops::glue::MaxPool)
SKNET_OPS_MINDSPORE_OP(max_pool_grad, sknet_ops::glue::MaxPoolGrad)
