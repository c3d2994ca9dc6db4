// SPDX-License-Identifier: Apache-2.0
// A stand-in for CANN's header, written from its public API reference: as much of it as sk_op_defs.cpp uses, and it
// keeps what it is told, so that a test can look.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ge {
using graphStatus = uint32_t;
constexpr graphStatus GRAPH_SUCCESS = 0, GRAPH_FAILED = 0xFFFFFFFF;
enum DataType { DT_FLOAT = 0, DT_FLOAT16 = 1, DT_BF16 = 27 };
enum Format { FORMAT_ND = 2 };
}  // namespace ge

namespace gert {
template <typename T>
struct TypedContinuousVector {
  std::vector<T> values;
  const T* GetData() const { return values.data(); }
  size_t GetSize() const { return values.size(); }
};
struct RuntimeAttrs {
  TypedContinuousVector<int64_t> ints;
  TypedContinuousVector<float> floats;
  const TypedContinuousVector<int64_t>* GetListInt(size_t index) const { return index == 0 ? &ints : nullptr; }
  const TypedContinuousVector<float>* GetListFloat(size_t index) const { return index == 1 ? &floats : nullptr; }
};
struct CompileTimeTensorDesc {
  ge::DataType type;
  ge::DataType GetDataType() const { return type; }
};
struct Shape {
  std::vector<int64_t> dims;
  void SetDimNum(size_t count) { dims.resize(count); }
  void SetDim(size_t index, int64_t value) { dims.at(index) = value; }
};
struct TilingData {
  std::vector<uint8_t> bytes = std::vector<uint8_t>(4096);
  size_t used = 0;
  size_t GetCapacity() const { return bytes.size(); }
  void* GetData() { return bytes.data(); }
  void SetDataSize(size_t size) { used = size; }
};
struct Context {
  RuntimeAttrs attrs;
  std::vector<CompileTimeTensorDesc> inputs, outputs;
  const RuntimeAttrs* GetAttrs() const { return &attrs; }
  const CompileTimeTensorDesc* GetInputDesc(size_t i) const { return &inputs.at(i); }
  const CompileTimeTensorDesc* GetOutputDesc(size_t i) const { return &outputs.at(i); }
};
struct InferShapeContext : Context {
  std::vector<Shape> shapes;
  Shape* GetOutputShape(size_t i) { return &shapes.at(i); }
};
struct InferDataTypeContext : Context {
  ge::DataType GetInputDataType(size_t i) const { return inputs.at(i).type; }
  ge::graphStatus SetOutputDataType(size_t i, ge::DataType type) {
    outputs.at(i).type = type;
    return ge::GRAPH_SUCCESS;
  }
};
struct TilingContext : Context {
  TilingData data;
  uint32_t blocks = 0;
  size_t workspace = 0;
  void* GetPlatformInfo() { return this; }
  TilingData* GetRawTilingData() { return &data; }
  ge::graphStatus SetBlockDim(uint32_t value) { return blocks = value, ge::GRAPH_SUCCESS; }
  size_t* GetWorkspaceSizes(size_t) { return &workspace; }
};
}  // namespace gert

namespace ops {
enum Option { OPTIONAL = 0, REQUIRED = 1 };

struct OpParamDef {
  std::string name;
  Option option = REQUIRED;
  std::vector<ge::DataType> types;
  OpParamDef& ParamType(Option value) { return option = value, *this; }
  OpParamDef& DataType(std::vector<ge::DataType> value) { return types = std::move(value), *this; }
  OpParamDef& Format(std::vector<ge::Format>) { return *this; }
  OpParamDef& UnknownShapeFormat(std::vector<ge::Format>) { return *this; }
};
struct OpAttrDef {
  std::string name, kind;
  OpAttrDef& AttrType(Option) { return *this; }
  OpAttrDef& ListInt() { return kind = "ints", *this; }
  OpAttrDef& ListFloat() { return kind = "floats", *this; }
};
struct OpAICoreDef {
  std::function<ge::graphStatus(gert::TilingContext*)> tiling;
  std::string config;
  OpAICoreDef& SetTiling(ge::graphStatus (*f)(gert::TilingContext*)) { return tiling = f, *this; }
  OpAICoreDef& AddConfig(const char* soc) { return config = soc, *this; }
};
class OpDef {
 public:
  explicit OpDef(const char* type) : name(type) {}
  OpParamDef& Input(const char* tensor) { return inputs.emplace_back(OpParamDef{tensor, REQUIRED, {}}); }
  OpParamDef& Output(const char* tensor) { return outputs.emplace_back(OpParamDef{tensor, REQUIRED, {}}); }
  OpAttrDef& Attr(const char* attr) { return attrs.emplace_back(OpAttrDef{attr, ""}); }
  OpDef& SetInferShape(ge::graphStatus (*f)(gert::InferShapeContext*)) { return infer_shape = f, *this; }
  OpDef& SetInferDataType(ge::graphStatus (*f)(gert::InferDataTypeContext*)) { return infer_type = f, *this; }
  OpAICoreDef& AICore() { return core; }

  std::string name;
  std::vector<OpParamDef> inputs, outputs;
  std::vector<OpAttrDef> attrs;
  std::function<ge::graphStatus(gert::InferShapeContext*)> infer_shape;
  std::function<ge::graphStatus(gert::InferDataTypeContext*)> infer_type;
  OpAICoreDef core;
};

inline std::map<std::string, std::unique_ptr<OpDef>>& registry() {
  static std::map<std::string, std::unique_ptr<OpDef>> ops;
  return ops;
}
}  // namespace ops

#define OP_ADD(Type) \
  static const bool added_##Type = ops::registry().emplace(#Type, std::make_unique<Type>(#Type)).second
