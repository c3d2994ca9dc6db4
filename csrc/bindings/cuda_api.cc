// SPDX-License-Identifier: Apache-2.0
// libsknet_ops_cuda.so: the C entries that MindSpore's ops.Custom(aot) looks up, over the CUDA table, and plain C calls
// on raw device pointers for everyone else. Both go through the same descriptions (mindspore_*.cc), so shapes and
// attributes are checked once.
#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <string>

#include "bindings/mindspore_op.h"
#include "cuda/ops.h"
#include "cuda/plan.h"

#define SKNET_OPS_FOR_EACH_CUDA_OP(visit)                                                          \
  visit(sk_conv) visit(sk_conv_grad) visit(sk_attention) visit(sk_attention_grad) visit(sk_select) \
      visit(sk_select_grad) visit(selective_kernel) visit(selective_kernel_grad)

#define SKNET_OPS_DECLARE(op)                                                                          \
  extern "C" int op##Init(int*, int64_t**, const char**, mindspore::AotExtra*);                        \
  extern "C" std::vector<sknet_ops::glue::Dims> op##InferShape(int*, int64_t**, mindspore::AotExtra*); \
  extern "C" int op(int, void**, int*, int64_t**, const char**, void*, void*);
SKNET_OPS_FOR_EACH_CUDA_OP(SKNET_OPS_DECLARE)
#undef SKNET_OPS_DECLARE

namespace sknet_ops {

// The table that the descriptions in this library call.
const OpTable<float>& active_table() { return cuda::table(); }

// The kernels take weights as they are.
KeptWeights* make_kept_weights() { return nullptr; }
void free_kept_weights(KeptWeights*) {}
void forget_kept_weights() {}

namespace glue {
void set_stream(void* stream) { cuda::context().stream = stream; }
}  // namespace glue

namespace {

struct Entry {
  int (*init)(int*, int64_t**, const char**, mindspore::AotExtra*);
  std::vector<glue::Dims> (*infer)(int*, int64_t**, mindspore::AotExtra*);
  int (*call)(int, void**, int*, int64_t**, const char**, void*, void*);
};

const Entry& entry(const std::string& name) {
  static const std::map<std::string, Entry> entries{
#define SKNET_OPS_ENTRY(op) {#op, {op##Init, op##InferShape, op}},
      SKNET_OPS_FOR_EACH_CUDA_OP(SKNET_OPS_ENTRY)
#undef SKNET_OPS_ENTRY
  };
  const auto found = entries.find(name);
  if (found == entries.end())
    throw std::invalid_argument("op: got " + name + ", expected one of those with a CUDA kernel");
  return found->second;
}

// Attributes as a caller without MindSpore brings them.
class Attributes : public mindspore::AotExtra {
 public:
  ~Attributes() override { SetKernelData(nullptr); }
  void set(const std::string& name, std::vector<double> value) { values_[name] = std::move(value); }

  bool HasAttr(std::string name) override { return values_.count(name) != 0; }
  bool GetAttrBool(std::string name) override { return one(name) != 0; }
  int64_t GetAttrInt(std::string name) override { return static_cast<int64_t>(one(name)); }
  float GetAttrFloat(std::string name) override { return static_cast<float>(one(name)); }
  std::string GetAttrStr(std::string) override { return {}; }
  std::vector<int64_t> GetAttrIntVec(std::string name) override {
    return {values_.at(name).begin(), values_.at(name).end()};
  }
  std::vector<float> GetAttrFloatVec(std::string) override { return {}; }
  std::vector<std::vector<int64_t>> GetAttrInt2DVec(std::string) override { return {}; }
  std::vector<std::vector<float>> GetAttrFloat2DVec(std::string) override { return {}; }

 private:
  double one(const std::string& name) const {
    const std::vector<double>& value = values_.at(name);
    if (value.size() != 1) throw std::invalid_argument("attribute " + name + ": expected one value");
    return value[0];
  }
  std::map<std::string, std::vector<double>> values_;
};

thread_local std::string message;

template <class Body>
int guarded(Body body) {
  try {
    body();
    return 0;
  } catch (const std::invalid_argument& e) {
    message = e.what();
    return 1;
  } catch (const std::exception& e) {
    message = e.what();
    return 2;
  }
}

}  // namespace
}  // namespace sknet_ops

using sknet_ops::Attributes;
using sknet_ops::guarded;
namespace cuda = sknet_ops::cuda;

// Each returns 0, or 1 for an argument that is wrong, or 2 for a call that failed; then sknet_ops_cuda_error() says
// why.
extern "C" {

SKNET_OPS_API const char* sknet_ops_cuda_error() { return sknet_ops::message.c_str(); }

// One call's settings, on this thread until set again. storage: 0 float32, 1 float16, 2 bfloat16. channels_last: maps
// lie as (n, h, w, c) or (n, branches, h, w, c); shapes are given as (n, c, h, w) still. inside: the layout of z where
// maps are NCHW, which a forward op and its gradient have to agree on: 0 by the table, for the storage type and tf32, 1
// NCHW, 2 channels last. Scratch starts at a multiple of 256 bytes. Null: the library keeps its own, which a stream
// that is being captured cannot have.
SKNET_OPS_API int sknet_ops_cuda_settings(void* stream, int storage, int channels_last, int inside, int tf32,
                                          void* scratch, int64_t scratch_bytes) {
  return guarded([&] {
    if (storage < 0 || storage > 2)
      throw std::invalid_argument("storage: got " + std::to_string(storage) + ", expected 0..2");
    if (inside < 0 || inside > 2) {
      throw std::invalid_argument("inside: got " + std::to_string(inside) + ", expected 0..2");
    }
    if (reinterpret_cast<uintptr_t>(scratch) % 256 != 0) {
      throw std::invalid_argument("scratch: got an address that is no multiple of 256 bytes");
    }
    cuda::Context& ctx = cuda::context();
    ctx.stream = stream;
    ctx.storage = static_cast<cuda::Storage>(storage);
    ctx.channels_last = channels_last != 0;
    ctx.inside = static_cast<cuda::Inside>(inside);
    ctx.tf32 = tf32 != 0;
    ctx.scratch = static_cast<char*>(scratch);
    ctx.scratch_bytes = scratch_bytes;
  });
}

SKNET_OPS_API void* sknet_ops_cuda_attributes() { return new (std::nothrow) Attributes; }
SKNET_OPS_API void sknet_ops_cuda_free_attributes(void* attributes) { delete static_cast<Attributes*>(attributes); }
SKNET_OPS_API int sknet_ops_cuda_set(void* attributes, const char* name, const double* values, int count) {
  return guarded([&] { static_cast<Attributes*>(attributes)->set(name, {values, values + std::max(count, 0)}); });
}

// Shapes of the outputs: ranks and dims (8 a tensor) are filled for at most `room` outputs, *count says how many.
SKNET_OPS_API int sknet_ops_cuda_infer(const char* op, void* attributes, int* ndims, int64_t** shapes, int room,
                                       int* count, int* out_ndims, int64_t* out_dims) {
  return guarded([&] {
    const auto out = sknet_ops::entry(op).infer(ndims, shapes, static_cast<Attributes*>(attributes));
    *count = static_cast<int>(out.size());
    for (int i = 0; i < std::min(room, *count); ++i) {
      out_ndims[i] = static_cast<int>(out[i].size());
      for (int k = 0; k < out_ndims[i]; ++k) out_dims[8 * i + k] = out[i][k];
    }
  });
}

// params, ndims, shapes: inputs, then outputs, as the description of the op lists them. Pointers are device memory.
SKNET_OPS_API int sknet_ops_cuda_call(const char* op, void* attributes, int n, void** params, int* ndims,
                                      int64_t** shapes) {
  return guarded([&] {
    auto* extra = static_cast<Attributes*>(attributes);
    const sknet_ops::Entry& entry = sknet_ops::entry(op);
    entry.init(ndims, shapes, nullptr, extra);
    // What a map is stored as is said by the settings; the descriptions know float32 alone.
    const std::vector<const char*> types(n, "float32");
    entry.call(n, params, ndims, shapes, const_cast<const char**>(types.data()), cuda::context().stream, extra);
  });
}

// Plans a call, touching no memory and asking no device: bytes of scratch it needs, and its kernels as lines
// "name blocks shared_bytes" (valid until the next call on this thread). capability 0: the current device.
SKNET_OPS_API int sknet_ops_cuda_plan(const char* op, void* attributes, int n, void** params, int* ndims,
                                      int64_t** shapes, int capability, int multiprocessors, int shared_bytes,
                                      int64_t* scratch_bytes, const char** kernels) {
  thread_local std::string lines;
  cuda::Context& ctx = cuda::context();
  const cuda::Device device{multiprocessors, shared_bytes, capability, capability};
  ctx.plan_only = true;
  ctx.pretend = capability != 0 ? &device : nullptr;
  ctx.launches.clear();
  ctx.scratch_used = 0;
  const int status = sknet_ops_cuda_call(op, attributes, n, params, ndims, shapes);
  ctx.plan_only = false;
  ctx.pretend = nullptr;
  lines.clear();
  for (const cuda::Launch& l : ctx.launches) {
    lines += l.kernel + " " + std::to_string(l.blocks) + " " + std::to_string(l.shared_bytes) + "\n";
  }
  *scratch_bytes = ctx.scratch_used;
  *kernels = lines.c_str();
  return status;
}

// 1 where maps with channels last are the faster layout of an SK unit, else 0.
SKNET_OPS_API int sknet_ops_cuda_prefers_channels_last(int storage, int tf32, int channels_a_group) {
  return cuda::prefers_channels_last(static_cast<cuda::Storage>(storage), tf32 != 0, channels_a_group) ? 1 : 0;
}

// *turns is 1 where selective_kernel of maps in NCHW keeps z with channels last unless a call asks for another, else 0.
SKNET_OPS_API int sknet_ops_cuda_turns_inside(int storage, int tf32, int channels_a_group, int* turns) {
  return guarded(
      [&] { *turns = cuda::turns_inside(static_cast<cuda::Storage>(storage), tf32 != 0, channels_a_group) ? 1 : 0; });
}

// Where tensors have to be, as DLPack numbers it: 2 for CUDA, 1 for the emulator on the CPU.
SKNET_OPS_API int sknet_ops_cuda_device_type() {
#if defined(SKNET_OPS_EMULATE)
  return 1;
#else
  return 2;
#endif
}

// Number of the current device, for a call of `op`.
SKNET_OPS_API int sknet_ops_cuda_current(const char* op, int* index) {
  return guarded([&] { *index = cuda::current_index(op); });
}

// The current device; for `why not here`.
SKNET_OPS_API int sknet_ops_cuda_device(int* capability, int* multiprocessors, int* shared_bytes) {
  return guarded([&] {
    const cuda::Device device = cuda::current_device("sknet_ops_cuda_device");
    *capability = device.capability, *multiprocessors = device.multiprocessors, *shared_bytes = device.shared_bytes;
  });
}

}  // extern "C"
