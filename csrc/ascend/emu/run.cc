// SPDX-License-Identifier: Apache-2.0
// C entries for the tests: an op by name, its attributes and its tensors, tiled as the host would and run on the
// emulated cores; and what the host's arithmetic says without running anything.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>

#include "kernels.h"
#include "machine.h"
#include "sk_ops.h"

namespace {

using namespace sknet_ops::ascend;

using Entry = void (*)(uint8_t* const*, uint8_t*);
struct Kernel {
  Entry entry[2];
  int tensors;
};

const std::map<std::string, Kernel>& kernels() {
#define SK_ENTRY(kernel, tensors) {#kernel, {{emu::run_##kernel##_half, emu::run_##kernel##_float}, tensors}},
  static const std::map<std::string, Kernel> kKernels{SK_KERNELS(SK_ENTRY)};
#undef SK_ENTRY
  return kKernels;
}

int guarded(char* error, int size, const std::function<void()>& body) {
  try {
    body();
    return 0;
  } catch (const std::exception& e) {
    std::snprintf(error, size, "%s", e.what());
    return dynamic_cast<const std::invalid_argument*>(&e) ? 2 : 1;
  }
}

}  // namespace

extern "C" {

// 0: done; 1: the kernel is at fault; 2: the tiling refuses the call. `tensors` are in the kernel's order.
int emu_run(const char* op, const char* soc, const char* type, const int64_t* sizes, int64_t size_count,
            const double* numbers, int64_t number_count, uint8_t* const* tensors, const int64_t* bytes,
            const char* const* names, int count, uint64_t seed, int check_hazards, int64_t* counters, int* blocks,
            char* error, int error_size) {
  return guarded(error, error_size, [&] {
    const OpInfo& info = find_op(op);
    Tiled launch = info.tile({platform(soc), dtype(op, type), {sizes, size_count, numbers, number_count}});
    const Kernel& kernel = kernels().at(op);
    if (count != kernel.tensors || count != static_cast<int>(info.inputs.size() + info.outputs.size())) {
      throw std::invalid_argument(std::string(op) + ": got " + std::to_string(count) + " tensors, expected " +
                                  std::to_string(kernel.tensors));
    }
    auto& machine = emu::Machine::instance();
    machine.reset_buffers();
    for (int i = 0; i < count; ++i) {
      if (tensors[i]) {
        machine.add_buffer(names[i], tensors[i], bytes[i]);
      }
    }
    const Entry entry = kernel.entry[type == std::string("float16") ? 0 : 1];
    emu::Counters counted{};
    machine.launch([&] { entry(tensors, launch.data.data()); }, launch.cube ? emu::Core::kCube : emu::Core::kVector,
                   launch.blocks, {seed, check_hazards != 0}, &counted);
    *blocks = launch.blocks;
    std::copy_n(reinterpret_cast<const int64_t*>(&counted), emu::kCounterFields, counters);
  });
}

// Dimensions of output `index`, at most 8 of them; *ndim is -1 if there is no such output.
int emu_shape(const char* op, const char* soc, const char* type, const int64_t* sizes, int64_t size_count,
              const double* numbers, int64_t number_count, int index, int64_t* dims, int* ndim, char* error,
              int error_size) {
  return guarded(error, error_size, [&] {
    const auto shapes =
        find_op(op).shapes({platform(soc), dtype(op, type), {sizes, size_count, numbers, number_count}});
    *ndim = index < static_cast<int>(shapes.size()) ? static_cast<int>(shapes[index].size()) : -1;
    for (int i = 0; i < *ndim; ++i) {
      dims[i] = shapes[index][i];
    }
  });
}

// The tiling structure of one launch, at most `room` bytes.
int emu_tiling(const char* op, const char* soc, const char* type, const int64_t* sizes, int64_t size_count,
               const double* numbers, int64_t number_count, uint8_t* data, int room, int* used, int* blocks,
               char* error, int error_size) {
  return guarded(error, error_size, [&] {
    const Tiled tiled = find_op(op).tile({platform(soc), dtype(op, type), {sizes, size_count, numbers, number_count}});
    if (static_cast<int>(tiled.data.size()) > room) {
      throw std::invalid_argument("no room for the tiling");
    }
    std::copy(tiled.data.begin(), tiled.data.end(), data);
    *used = static_cast<int>(tiled.data.size());
    *blocks = tiled.blocks;
  });
}

// Names of an op's tensors in the kernel's order, with commas; inputs, a semicolon, outputs. Null past the last op.
const char* emu_op(int index, const char** tensors) {
  static std::string names;
  if (index < 0 || index >= static_cast<int>(ops().size())) {
    return nullptr;
  }
  names.clear();
  for (const auto* list : {&ops()[index].inputs, &ops()[index].outputs}) {
    for (const TensorInfo& info : *list) {
      names += std::string(info.name) + ",";
    }
    names += ";";
  }
  *tensors = names.c_str();
  return ops()[index].name;
}

}  // extern "C"
