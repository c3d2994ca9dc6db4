// SPDX-License-Identifier: Apache-2.0
#include "cpu/memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <utility>

namespace sknet_ops::cpu {
namespace {

constexpr size_t kPage = 4096, kHugePage = 2 << 20, kLarge = 1 << 20;  // bytes

}  // namespace

float* allocate_floats(int64_t* floats) {
  size_t bytes = static_cast<size_t>(*floats) * sizeof(float);
  const size_t page = bytes >= kLarge ? kHugePage : kPage;
  bytes = (bytes + page - 1) / page * page;
  auto* data = static_cast<float*>(std::aligned_alloc(page, bytes));
  if (data == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (page == kHugePage) madvise(data, bytes, MADV_HUGEPAGE);  // a wish: fails where there are none
#endif
  *floats = static_cast<int64_t>(bytes / sizeof(float));
  return data;
}

float* GrowingFloats::at_least(int64_t floats) {
  if (floats > floats_) {
    std::free(std::exchange(data_, nullptr));
    floats_ = 0;
    data_ = allocate_floats(&floats);
    floats_ = floats;
  }
  return data_;
}

}  // namespace sknet_ops::cpu
