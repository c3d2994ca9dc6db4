// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "sk_tiling.h"
#include "sk_tiling_checks.h"

namespace sknet_ops::ascend {

Platform platform(const std::string& soc) {
  struct Named {
    const char* name;
    int32_t cube_cores;
  };
  // Cores as in CANN's public platform files; everything else is the same throughout the family.
  constexpr std::array<Named, 6> kFamily{{{"Ascend910B1", 24},
                                          {"Ascend910B2", 24},
                                          {"Ascend910B2C", 24},
                                          {"Ascend910B3", 20},
                                          {"Ascend910B4", 20},
                                          {"Ascend910B4-1", 20}}};
  std::string names;
  for (const Named& chip : kFamily) {
    if (soc == chip.name) {
      return {chip.cube_cores, 2 * chip.cube_cores, 192 * 1024, 512 * 1024, 64 * 1024, 64 * 1024, 128 * 1024};
    }
    names += std::string(names.empty() ? "" : ", ") + chip.name;
  }
  refuse("platform", "soc_version", soc, "one of " + names);
}

Dtype dtype(const char* op, const std::string& name) {
  if (name == "float16") {
    return Dtype::kHalf;
  }
  if (name == "float32") {
    return Dtype::kFloat;
  }
  refuse(op, "dtype", name, "float16 or float32");
}

}  // namespace sknet_ops::ascend
