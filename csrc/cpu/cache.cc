// SPDX-License-Identifier: Apache-2.0
#include "cpu/cache.h"

#include <unistd.h>

#include <algorithm>

namespace sknet_ops::cpu {

int64_t second_level_floats() {
  static const int64_t floats = [] {
    long bytes = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);  // 0 or -1 where the system does not say
#endif
    return bytes > 0 ? std::clamp<int64_t>(bytes / 4, 64 << 10, 1 << 20) : int64_t{256} << 10;
  }();
  return floats;
}

}  // namespace sknet_ops::cpu
