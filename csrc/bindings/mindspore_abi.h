// SPDX-License-Identifier: Apache-2.0
// What MindSpore's ops.Custom(func_type="aot") hands to a library, declared here rather than taken from its header
// custom_aot_extra.h: that one needs MindSpore's internal headers, and its Attr<T>() returns 0 for every T.
//
// The order of the virtual functions and the two data members are MindSpore's (2.7 to 2.10). Its std::string has the
// old layout, so whatever includes this is compiled with _GLIBCXX_USE_CXX11_ABI=0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#if _GLIBCXX_USE_CXX11_ABI
#error "MindSpore's strings have the old layout: compile with -D_GLIBCXX_USE_CXX11_ABI=0"
#endif

namespace mindspore {

enum TypeId : int {};
inline constexpr TypeId kNumberTypeFloat32 = static_cast<TypeId>(43);

// State that Init leaves for the calls that follow; owned by AotExtra, which deletes it through this base.
class AotKernelData {
 public:
  AotKernelData() = default;
  virtual ~AotKernelData() = default;
};

class AotExtra {
 public:
  AotExtra() = default;
  virtual ~AotExtra() = default;
  virtual bool HasAttr(std::string name) = 0;
  virtual bool GetAttrBool(std::string name) = 0;
  virtual int64_t GetAttrInt(std::string name) = 0;
  virtual float GetAttrFloat(std::string name) = 0;
  virtual std::string GetAttrStr(std::string name) = 0;
  virtual std::vector<int64_t> GetAttrIntVec(std::string name) = 0;
  virtual std::vector<float> GetAttrFloatVec(std::string name) = 0;
  virtual std::vector<std::vector<int64_t>> GetAttrInt2DVec(std::string name) = 0;
  virtual std::vector<std::vector<float>> GetAttrFloat2DVec(std::string name) = 0;

  // Init may run again on the same object (a new shape), so the previous state goes.
  void SetKernelData(AotKernelData* data) {
    delete kernel_data_;
    kernel_data_ = data;
  }
  const AotKernelData* KernelData() const { return kernel_data_; }

 private:
  std::vector<size_t> workspace_;
  AotKernelData* kernel_data_ = nullptr;
};

}  // namespace mindspore
