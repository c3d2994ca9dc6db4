// SPDX-License-Identifier: Apache-2.0
// op_sequence as plain C functions, for callers that need nothing of MindSpore's executor (sknet_ops/sequences/
// direct.py): the attributes one by one, then calls. Errors as in c_api.cc: the reason in *error.
#include <algorithm>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "bindings/mindspore_abi.h"
#include "sknet_ops/ops.h"

extern "C" {
int op_sequenceInit(int*, int64_t**, const char**, mindspore::AotExtra* extra);
int op_sequence(int n, void** params, int* ndims, int64_t** shapes, const char** dtypes, void* stream, void* extra);
}

namespace {

// What MindSpore would hand over: attributes, and the state that the op makes of them.
class DirectExtra final : public mindspore::AotExtra {
 public:
  DirectExtra() = default;
  ~DirectExtra() override { SetKernelData(nullptr); }  // deletes it
  bool HasAttr(std::string name) override { return numbers_.count(name) + reals_.count(name) + texts_.count(name) > 0; }
  bool GetAttrBool(std::string name) override { return GetAttrInt(name) != 0; }
  int64_t GetAttrInt(std::string name) override { return numbers_.at(name).at(0); }
  float GetAttrFloat(std::string name) override { return static_cast<float>(reals_.at(name)); }
  std::string GetAttrStr(std::string name) override { return texts_.at(name); }
  std::vector<int64_t> GetAttrIntVec(std::string name) override { return numbers_.at(name); }
  std::vector<float> GetAttrFloatVec(std::string) override { return {}; }
  std::vector<std::vector<int64_t>> GetAttrInt2DVec(std::string) override { return {}; }
  std::vector<std::vector<float>> GetAttrFloat2DVec(std::string) override { return {}; }

  void set(const std::string& name, const int64_t* values, int count) { numbers_[name].assign(values, values + count); }
  void set(const std::string& name, double value) { reals_[name] = value; }
  void set(const std::string& name, const char* value) { texts_[name] = value; }

 private:
  std::map<std::string, std::vector<int64_t>> numbers_;
  std::map<std::string, double> reals_;
  std::map<std::string, std::string> texts_;
};

template <typename Work>
int guarded(const char** error, Work work) {
  thread_local std::string message;
  try {
    work();
    return 0;
  } catch (const std::exception& e) {
    message = e.what();
    *error = message.c_str();
    return 1;
  }
}

}  // namespace

extern "C" {

// To be given to sknet_ops_sequence_free. Null if there is no memory for it.
SKNET_OPS_API void* sknet_ops_sequence_new() {
  try {
    return new DirectExtra;
  } catch (const std::exception&) {
    return nullptr;
  }
}

SKNET_OPS_API void sknet_ops_sequence_free(void* sequence) { delete static_cast<DirectExtra*>(sequence); }

// Attributes: whole numbers (one for a bool or an int), a real number, a text.
SKNET_OPS_API int sknet_ops_sequence_set_ints(void* sequence, const char* name, const int64_t* values, int count,
                                              const char** error) {
  return guarded(error, [&] { static_cast<DirectExtra*>(sequence)->set(name, values, count); });
}
SKNET_OPS_API int sknet_ops_sequence_set_real(void* sequence, const char* name, double value, const char** error) {
  return guarded(error, [&] { static_cast<DirectExtra*>(sequence)->set(name, value); });
}
SKNET_OPS_API int sknet_ops_sequence_set_text(void* sequence, const char* name, const char* value, const char** error) {
  return guarded(error, [&] { static_cast<DirectExtra*>(sequence)->set(name, value); });
}

// After the last attribute, before the first call.
SKNET_OPS_API int sknet_ops_sequence_ready(void* sequence, const char** error) {
  return guarded(error, [&] { op_sequenceInit(nullptr, nullptr, nullptr, static_cast<DirectExtra*>(sequence)); });
}

// n buffers of float32, the inputs and then the output; ndims and shapes of each.
SKNET_OPS_API int sknet_ops_sequence_call(void* sequence, int n, void** params, int* ndims, int64_t** shapes,
                                          const char** error) {
  return guarded(error, [&] {
    const std::vector<const char*> types(static_cast<size_t>(std::max(n, 0)), "float32");
    op_sequence(n, params, ndims, shapes, const_cast<const char**>(types.data()), nullptr,
                static_cast<mindspore::AotExtra*>(static_cast<DirectExtra*>(sequence)));
  });
}

}  // extern "C"
