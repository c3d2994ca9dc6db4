// SPDX-License-Identifier: Apache-2.0
// Memory for floats that stays in use.
#pragma once

#include <cstdint>

namespace sknet_ops::cpu {

// At least *floats, which becomes how many there are. 64-byte aligned, contents undefined; large ones in huge pages
// where the system has them to give, as their pages would cost the address caches more than the data. Released by
// std::free. Throws std::bad_alloc.
float* allocate_floats(int64_t* floats);

// One such piece that grows and is kept until the process ends.
class GrowingFloats {
 public:
  float* data() const { return data_; }
  // What it held is lost if it has to grow. Throws std::bad_alloc, and is empty then.
  float* at_least(int64_t floats);

 private:
  float* data_ = nullptr;
  int64_t floats_ = 0;
};

}  // namespace sknet_ops::cpu
