// SPDX-License-Identifier: Apache-2.0
// sk_select       u, attention -> y
// sk_select_grad  dy, u, attention -> du, dattention
#include "bindings/mindspore_op.h"

namespace sknet_ops::glue {
namespace {

struct NoAttrs : mindspore::AotKernelData {
  NoAttrs(const char*, mindspore::AotExtra&) {}
};

struct SkSelect {
  using Attrs = NoAttrs;
  static constexpr const char* kName = "sk_select";
  static int inputs(const Attrs&) { return 2; }
  static int outputs(const Attrs&) { return 1; }
  static std::string input_name(const Attrs&, int i) { return i == 0 ? "u" : "attention"; }

  static std::vector<Dims> infer(const Attrs&, const Shapes& in) {
    if (known(in[0]) && known(in[1])) check::sk_select(kName, in[0], in[1]);
    return {{dim(in[0], 5, 0), dim(in[0], 5, 2), dim(in[0], 5, 3), dim(in[0], 5, 4)}};
  }

  static void run(const Attrs&, const Shapes& in, void** params) {
    const SkSelectParams p = check::sk_select(kName, in[0], in[1]);
    Cursor at(params);
    SkSelectForward<float> t{};
    t.u = at.next(), t.attention = at.next(), t.y = at.next();
    active_table().sk_select(p, t);
  }
};

struct SkSelectGrad {
  using Attrs = NoAttrs;
  static constexpr const char* kName = "sk_select_grad";
  static int inputs(const Attrs&) { return 3; }
  static int outputs(const Attrs&) { return 2; }
  static std::string input_name(const Attrs&, int i) {
    static const char* const names[] = {"dy", "u", "attention"};
    return names[i];
  }

  static std::vector<Dims> infer(const Attrs&, const Shapes& in) { return {in.dims(1), in.dims(2)}; }

  static void run(const Attrs&, const Shapes& in, void** params) {
    const SkSelectParams p = check::sk_select(kName, in[1], in[2]);
    check::same_shape(kName, "dy", in[0], {p.n, p.c, p.h, p.w});
    Cursor at(params);
    SkSelectBackward<float> t{};
    t.dy = at.next(), t.u = at.next(), t.attention = at.next(), t.du = at.next(), t.dattention = at.next();
    active_table().sk_select_grad(p, t);
  }
};

}  // namespace
}  // namespace sknet_ops::glue

SKNET_OPS_MINDSPORE_OP(sk_select, sknet_ops::glue::SkSelect)
SKNET_OPS_MINDSPORE_OP(sk_select_grad, sknet_ops::glue::SkSelectGrad)
