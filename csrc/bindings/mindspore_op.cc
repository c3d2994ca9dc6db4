// SPDX-License-Identifier: Apache-2.0
#include "bindings/mindspore_op.h"

namespace sknet_ops::glue {

const char* type_name(mindspore::TypeId type) {
  switch (static_cast<int>(type)) {  // MindSpore's numbers
    case 30: return "bool";
    case 32: return "int8";
    case 33: return "int16";
    case 34: return "int32";
    case 35: return "int64";
    case 37: return "uint8";
    case 42: return "float16";
    case 43: return "float32";
    case 44: return "float64";
    case 45: return "bfloat16";
    default: return "other than a real number";
  }
}

void fail(const char* op, const std::string& what) { throw std::invalid_argument(op + (": " + what)); }

namespace {
void require(const char* op, mindspore::AotExtra& extra, const char* name) {
  if (!extra.HasAttr(name)) {
    fail(op, std::string("attribute ") + name + ": got none, expected one (the primitives of sknet_ops set it)");
  }
}
}  // namespace

bool bool_attr(const char* op, mindspore::AotExtra& extra, const char* name) {
  require(op, extra, name);
  return extra.GetAttrBool(name);
}

int64_t int_attr(const char* op, mindspore::AotExtra& extra, const char* name) {
  require(op, extra, name);
  return extra.GetAttrInt(name);
}

float float_attr(const char* op, mindspore::AotExtra& extra, const char* name) {
  require(op, extra, name);
  return extra.GetAttrFloat(name);
}

std::string str_attr(const char* op, mindspore::AotExtra& extra, const char* name) {
  require(op, extra, name);
  return extra.GetAttrStr(name);
}

Dims ints_attr(const char* op, mindspore::AotExtra& extra, const char* name) {
  require(op, extra, name);
  return extra.GetAttrIntVec(name);
}

NormParams norm_attrs(const char* op, mindspore::AotExtra& extra, const std::string& prefix) {
  return {bool_attr(op, extra, "training"), bool_attr(op, extra, (prefix + "relu").c_str()),
          float_attr(op, extra, (prefix + "eps").c_str()), float_attr(op, extra, (prefix + "momentum").c_str())};
}

}  // namespace sknet_ops::glue
