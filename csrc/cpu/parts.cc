// SPDX-License-Identifier: Apache-2.0
#include "cpu/parts.h"

#include <algorithm>

namespace sknet_ops::cpu {
namespace {

thread_local int64_t t_whole = 0;

}  // namespace

PartsOf::PartsOf(int64_t images) : before_(t_whole) { t_whole = std::max(before_, images); }

PartsOf::~PartsOf() { t_whole = before_; }

int64_t images_of_call(int64_t n) { return std::max(n, t_whole); }

}  // namespace sknet_ops::cpu
