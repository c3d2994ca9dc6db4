// SPDX-License-Identifier: Apache-2.0
// Calls that are taken in parts of some images. How many at a time depends on caches and threads; what is computed how
// must not, so choices that weigh the number of images ask for that of the whole call.
#pragma once

#include <cstdint>

namespace sknet_ops::cpu {

// While it lives, ops on this thread are parts of a call on so many images. The outermost counts.
class PartsOf {
 public:
  explicit PartsOf(int64_t images);
  ~PartsOf();
  PartsOf(const PartsOf&) = delete;
  PartsOf& operator=(const PartsOf&) = delete;

 private:
  const int64_t before_;
};

// Images of the whole call, of which n are at hand.
int64_t images_of_call(int64_t n);

}  // namespace sknet_ops::cpu
