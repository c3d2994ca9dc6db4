// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace sknet_ops::cpu {

// Floats in a core's second-level cache, for choosing what is worked on at a time. No result may depend on it.
int64_t second_level_floats();

}  // namespace sknet_ops::cpu
