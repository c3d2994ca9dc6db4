// SPDX-License-Identifier: Apache-2.0
// The ops, as one table of functions per backend. Every backend fills the same table; nothing else is shared.
#pragma once

#include "sknet_ops/params.h"

#define SKNET_OPS_API __attribute__((visibility("default")))

namespace sknet_ops {

template <typename T>
struct OpTable {
  void (*conv_bn_act)(const ConvBnActParams&, const ConvBnActForward<T>&);
  void (*conv_bn_act_grad)(const ConvBnActParams&, const ConvBnActBackward<T>&);
  void (*sk_conv)(const SkConvParams&, const SkConvForward<T>&);
  void (*sk_conv_grad)(const SkConvParams&, const SkConvBackward<T>&);
  void (*sk_attention)(const SkAttentionParams&, const SkAttentionForward<T>&);
  void (*sk_attention_grad)(const SkAttentionParams&, const SkAttentionBackward<T>&);
  void (*sk_select)(const SkSelectParams&, const SkSelectForward<T>&);
  void (*sk_select_grad)(const SkSelectParams&, const SkSelectBackward<T>&);
  void (*selective_kernel)(const SelectiveKernelParams&, const SelectiveKernelForward<T>&);
  void (*selective_kernel_grad)(const SelectiveKernelParams&, const SelectiveKernelBackward<T>&);
  void (*max_pool)(const MaxPoolParams&, const MaxPoolForward<T>&);
  void (*max_pool_grad)(const MaxPoolParams&, const MaxPoolBackward<T>&);
  void (*pool_dense)(const PoolDenseParams&, const PoolDenseForward<T>&);
};

// What the backend made of a frozen layer's weights, kept for its next calls. Null where the backend has no use for it;
// a null pointer may be freed.
SKNET_OPS_API KeptWeights* make_kept_weights();
SKNET_OPS_API void free_kept_weights(KeptWeights* kept);
// From now on all of them are made anew: somebody may have changed weights.
SKNET_OPS_API void forget_kept_weights();

namespace reference {
// Readable scalar loops: the specification. T is float or double.
template <typename T>
const OpTable<T>& table();
extern template SKNET_OPS_API const OpTable<float>& table<float>();
extern template SKNET_OPS_API const OpTable<double>& table<double>();
}  // namespace reference

namespace cpu {
enum class Isa : int { kScalar = 0, kAvx2 = 1, kAvx512 = 2, kNeon = 3, kAmx = 4 };

// The table for one instruction set. Throws std::invalid_argument if the binary or the processor lacks it.
SKNET_OPS_API const OpTable<float>& table(Isa isa);
// Null if `isa` can run here, else the reason in words.
SKNET_OPS_API const char* why_not(Isa isa);
SKNET_OPS_API const char* isa_name(Isa isa);
// The best that can run here, or the one that the environment variable SKNET_OPS_ISA names (read at each call,
// so that a test can change it). Throws std::invalid_argument, listing the choices, on a name that cannot run.
SKNET_OPS_API Isa active_isa();
// Threads that the next call will use: OMP_NUM_THREADS, CPU affinity and the cgroup's CPU limit, the least of them.
SKNET_OPS_API int num_threads();
SKNET_OPS_API void set_num_threads(int threads);  // 0: back to the automatic choice
// Leaves OMP_NUM_THREADS out of the automatic choice. MindSpore, when imported, sets it to 1 in a process that has
// none: then it is nobody's wish.
SKNET_OPS_API void ignore_omp_num_threads(bool ignore);
}  // namespace cpu

// The table that calls without an explicit choice get: SKNET_OPS_BACKEND = cpu (default) or reference.
SKNET_OPS_API const OpTable<float>& active_table();
SKNET_OPS_API const char* active_backend();

}  // namespace sknet_ops
