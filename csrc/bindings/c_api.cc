// SPDX-License-Identifier: Apache-2.0
// Plain C questions to the library, for ctypes: what runs here, and what does not and why.
// No exception leaves: a function that can fail returns null and leaves the reason in *error, valid until the next
// call on the same thread.
#include <exception>
#include <string>

#include "sknet_ops/ops.h"

namespace {

template <typename Query>
const char* guarded(const char** error, Query query) {
  thread_local std::string message;
  try {
    return query();
  } catch (const std::exception& e) {
    message = e.what();
    *error = message.c_str();
    return nullptr;
  }
}

}  // namespace

extern "C" {

// "cpu" or "reference".
SKNET_OPS_API const char* sknet_ops_active_backend(const char** error) {
  return guarded(error, [] { return sknet_ops::active_backend(); });
}

// The instruction set of the kernels that the next call takes; "scalar", "avx2", "avx512", "amx" or "neon".
SKNET_OPS_API const char* sknet_ops_active_isa(const char** error) {
  return guarded(error, [] { return sknet_ops::cpu::isa_name(sknet_ops::cpu::active_isa()); });
}

// Names of the instruction sets that the library knows, from the least to the most demanding; null past the last.
SKNET_OPS_API const char* sknet_ops_isa_name(int index) {
  using sknet_ops::cpu::Isa;
  if (index < 0 || index > static_cast<int>(Isa::kAmx)) return nullptr;
  return sknet_ops::cpu::isa_name(static_cast<Isa>(index));
}

// Null if that instruction set can run here, else the reason.
SKNET_OPS_API const char* sknet_ops_why_not(int index) {
  return sknet_ops::cpu::why_not(static_cast<sknet_ops::cpu::Isa>(index));
}

SKNET_OPS_API int sknet_ops_num_threads() { return sknet_ops::cpu::num_threads(); }

// 0: back to the automatic choice.
SKNET_OPS_API void sknet_ops_set_num_threads(int threads) { sknet_ops::cpu::set_num_threads(threads); }

// Whether the automatic choice of threads leaves OMP_NUM_THREADS out of account.
SKNET_OPS_API void sknet_ops_ignore_omp_num_threads(int ignore) { sknet_ops::cpu::ignore_omp_num_threads(ignore != 0); }

// Frozen layers pack their weights anew at their next call.
SKNET_OPS_API void sknet_ops_forget_kept_weights() { sknet_ops::forget_kept_weights(); }

}  // extern "C"
