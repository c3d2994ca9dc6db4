// SPDX-License-Identifier: Apache-2.0
// sknet_ops._native: the ops on NumPy arrays, without MindSpore; for tests and microbenchmarks.
#include "bindings/pybind_arrays.h"

namespace sknet_ops::numpy {
namespace {

bool poison = false;
constexpr cpu::Isa kIsas[] = {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512, cpu::Isa::kNeon, cpu::Isa::kAmx};

}  // namespace

bool poison_outputs() { return poison; }

Target make_target(const char* op, const std::string& backend, const std::optional<std::string>& isa) {
  if (backend == "reference") {
    if (isa) {
      value_error(op, "isa", "got '" + *isa + "', expected None: the reference has no instruction sets");
    }
    return {true, cpu::Isa::kScalar};
  }
  if (backend != "cpu") {
    value_error(op, "backend", "got '" + backend + "', expected 'cpu' or 'reference'");
  }
  if (!isa) {
    return {false, cpu::active_isa()};
  }
  std::string names;
  for (const cpu::Isa candidate : kIsas) {
    if (*isa == cpu::isa_name(candidate)) {
      return {false, candidate};
    }
    names += std::string(names.empty() ? "'" : ", '") + cpu::isa_name(candidate) + "'";
  }
  value_error(op, "isa", "got '" + *isa + "', expected one of " + names);
}

template <>
const OpTable<float>& table(const Target& target) {
  return target.reference ? reference::table<float>() : cpu::table(target.isa);
}

template <>
const OpTable<double>& table(const Target&) {
  return reference::table<double>();
}

namespace {

py::dict cpu_isas() {
  py::dict isas;
  for (const cpu::Isa isa : kIsas) {
    const char* reason = cpu::why_not(isa);
    isas[cpu::isa_name(isa)] = reason ? py::object(py::str(reason)) : py::none();
  }
  return isas;
}

void set_num_threads(int64_t threads) {
  if (threads < 0 || threads > std::numeric_limits<int>::max()) {
    value_error("set_num_threads", "threads", "got " + std::to_string(threads) + ", expected 0 (automatic) or more");
  }
  cpu::set_num_threads(static_cast<int>(threads));
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() =
      "The ops on NumPy arrays, without MindSpore.\n\n"
      "Arrays are C-contiguous float32 (backend='reference' takes float64 too) in NCHW layout; branches are lists of\n"
      "arrays. backend is 'cpu' or 'reference'; isa names an instruction set of the cpu backend, None is the best.\n"
      "Every op returns a dict of fresh arrays; with training=True it also holds what the gradient op needs, and the\n"
      "moving statistics are updated in place. Wrong types raise TypeError, wrong shapes and values ValueError.";
  py::class_<Kept>(
      m, "Kept",
      "Packed weights that calls of one layer with kept=... share. For weights that do not change: the arrays'\n"
      "addresses and a sample of their values are looked at, not all of them.")
      .def(py::init<>());
  add_conv_bn_act(m);
  add_sk_conv(m);
  add_sk_attention(m);
  add_sk_select(m);
  add_selective_kernel(m);
  add_max_pool(m);
  add_pool_dense(m);
  m.def("cpu_isas", &cpu_isas, "Instruction sets of the cpu backend: name -> None if it can run here, else why not.");
  m.def(
      "active_isa", [] { return cpu::isa_name(cpu::active_isa()); },
      "The instruction set that calls with isa=None use: the best, or what SKNET_OPS_ISA names.");
  m.def("active_backend", [] { return active_backend(); }, "The backend that the environment selects.");
  m.def("num_threads", &cpu::num_threads, "Threads that the next call will use.");
  m.def("set_num_threads", &set_num_threads, py::arg("threads"), "0: back to the automatic choice.");
  m.def("forget_kept_weights", &forget_kept_weights, "Every Kept is filled anew.");
  m.def(
      "poison_outputs", [](bool on) { poison = on; }, py::arg("on"),
      "Fill fresh outputs with NaN before each op, so that a test sees what a kernel did not write.");
}

}  // namespace sknet_ops::numpy
