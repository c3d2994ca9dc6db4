// SPDX-License-Identifier: Apache-2.0
// The ops of sk_ops.h as CANN knows them: definition, shape and type inference, tiling. The only file of this folder
// that needs CANN; everything it does not compute itself comes from the table, which is tested without.
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "register/op_def_registry.h"
#include "sk_ops.h"
#include "tiling/platform/platform_ascendc.h"

namespace {

using namespace sknet_ops::ascend;

// Attributes and type of a call, copied out of a context of tiling or of inference.
struct Copied {
  std::vector<int64_t> sizes;
  std::vector<double> numbers;
  Dtype type;

  Call call(const Platform& chip) const {
    return {chip,
            type,
            {sizes.data(), static_cast<int64_t>(sizes.size()), numbers.data(), static_cast<int64_t>(numbers.size())}};
  }
};

template <typename Context>
Copied copy(const Context* context, const OpInfo& op, ge::DataType type) {
  const auto* sizes = context->GetAttrs()->GetListInt(0);
  const auto* numbers = context->GetAttrs()->GetListFloat(1);
  Copied c;
  c.sizes.assign(sizes->GetData(), sizes->GetData() + sizes->GetSize());
  c.numbers.assign(numbers->GetData(), numbers->GetData() + numbers->GetSize());
  c.type = dtype(op.name, type == ge::DT_FLOAT16 ? "float16" : type == ge::DT_FLOAT ? "float32" : "another type");
  return c;
}

// The type of the first tensor that is a map; ops without any compute in float.
ge::DataType map_type(const gert::TilingContext* context, const OpInfo& op) {
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    if (op.inputs[i].map && context->GetInputDesc(i) != nullptr) {
      return context->GetInputDesc(i)->GetDataType();
    }
  }
  for (size_t i = 0; i < op.outputs.size(); ++i) {
    if (op.outputs[i].map) {
      return context->GetOutputDesc(i)->GetDataType();
    }
  }
  return ge::DT_FLOAT;
}

ge::graphStatus tile(gert::TilingContext* context, const char* name) {
  try {
    const OpInfo& op = find_op(name);
    const platform_ascendc::PlatformAscendC chip(context->GetPlatformInfo());
    if (chip.GetSocVersion() != platform_ascendc::SocVersion::ASCEND910B) {
      throw std::invalid_argument(std::string(name) + ": soc_version: got another chip, expected Ascend 910B");
    }
    Platform sizes = platform("Ascend910B1");
    sizes.cube_cores = static_cast<int32_t>(chip.GetCoreNumAic());
    sizes.vector_cores = static_cast<int32_t>(chip.GetCoreNumAiv());
    const Copied copied = copy(context, op, map_type(context, op));
    const Tiled tiled = op.tile(copied.call(sizes));
    auto* raw = context->GetRawTilingData();
    if (raw->GetCapacity() < tiled.data.size()) {
      throw std::invalid_argument(std::string(name) + ": the tiling does not fit in its buffer");
    }
    std::memcpy(raw->GetData(), tiled.data.data(), tiled.data.size());
    raw->SetDataSize(tiled.data.size());
    context->SetBlockDim(static_cast<uint32_t>(tiled.blocks));
    context->GetWorkspaceSizes(1)[0] = chip.GetLibApiWorkSpaceSize();
    return ge::GRAPH_SUCCESS;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "sknet_ops: %s\n", e.what());
    return ge::GRAPH_FAILED;
  }
}

ge::graphStatus infer_shape(gert::InferShapeContext* context, const char* name) {
  try {
    const OpInfo& op = find_op(name);
    ge::DataType type = ge::DT_FLOAT;
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      if (op.inputs[i].map && context->GetInputDesc(i) != nullptr) {
        type = context->GetInputDesc(i)->GetDataType();
        break;
      }
    }
    const Copied copied = copy(context, op, type);
    const auto shapes = op.shapes(copied.call(platform("Ascend910B1")));
    for (size_t i = 0; i < shapes.size(); ++i) {
      auto* out = context->GetOutputShape(i);
      out->SetDimNum(shapes[i].size());
      for (size_t d = 0; d < shapes[i].size(); ++d) {
        out->SetDim(d, shapes[i][d]);
      }
    }
    return ge::GRAPH_SUCCESS;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "sknet_ops: %s\n", e.what());
    return ge::GRAPH_FAILED;
  }
}

ge::graphStatus infer_type(gert::InferDataTypeContext* context, const char* name) {
  const OpInfo& op = find_op(name);
  ge::DataType type = ge::DT_FLOAT;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    if (op.inputs[i].map) {
      type = context->GetInputDataType(i);
      break;
    }
  }
  for (size_t i = 0; i < op.outputs.size(); ++i) {
    context->SetOutputDataType(i, op.outputs[i].map ? type : ge::DT_FLOAT);
  }
  return ge::GRAPH_SUCCESS;
}

// Maps come in both types; an op's other tensors are float with either.
void define(ops::OpDef& def, const char* name) {
  const OpInfo& op = find_op(name);
  const std::vector<ge::DataType> map{ge::DT_FLOAT16, ge::DT_FLOAT}, number{ge::DT_FLOAT, ge::DT_FLOAT};
  const std::vector<ge::Format> format{ge::FORMAT_ND, ge::FORMAT_ND};
  for (const TensorInfo& info : op.inputs) {
    def.Input(info.name)
        .ParamType(info.optional ? ops::OPTIONAL : ops::REQUIRED)
        .DataType(info.map ? map : number)
        .Format(format)
        .UnknownShapeFormat(format);
  }
  for (const TensorInfo& info : op.outputs) {
    def.Output(info.name)
        .ParamType(ops::REQUIRED)
        .DataType(info.map ? map : number)
        .Format(format)
        .UnknownShapeFormat(format);
  }
  def.Attr("sizes").AttrType(ops::REQUIRED).ListInt();
  def.Attr("numbers").AttrType(ops::REQUIRED).ListFloat();
}

}  // namespace

#define SK_OP(Type, kernel)                                                                                       \
  namespace optiling {                                                                                            \
  static ge::graphStatus Tile##Type(gert::TilingContext* context) { return tile(context, #kernel); }              \
  }                                                                                                               \
  namespace ge {                                                                                                  \
  static graphStatus Shape##Type(gert::InferShapeContext* context) { return infer_shape(context, #kernel); }      \
  static graphStatus DataType##Type(gert::InferDataTypeContext* context) { return infer_type(context, #kernel); } \
  }                                                                                                               \
  namespace ops {                                                                                                 \
  class Type : public OpDef {                                                                                     \
   public:                                                                                                        \
    explicit Type(const char* name) : OpDef(name) {                                                               \
      define(*this, #kernel);                                                                                     \
      this->SetInferShape(ge::Shape##Type).SetInferDataType(ge::DataType##Type);                                  \
      this->AICore().SetTiling(optiling::Tile##Type);                                                             \
      this->AICore().AddConfig("ascend910b");                                                                     \
    }                                                                                                             \
  };                                                                                                              \
  OP_ADD(Type);                                                                                                   \
  }

SK_OP(SkNormPartial, sk_norm_partial)
SK_OP(SkNormAct, sk_norm_act)
SK_OP(SkNormGradPartial, sk_norm_grad_partial)
SK_OP(SkNormGrad, sk_norm_grad)
SK_OP(SkSelect, sk_select)
SK_OP(SkSelectGrad, sk_select_grad)
SK_OP(SkBranchGrad, sk_branch_grad)
SK_OP(SkAttentionHidden, sk_attention_hidden)
SK_OP(SkAttentionSelect, sk_attention_select)
SK_OP(SkAttentionGrad, sk_attention_grad)
SK_OP(SkPackWeight, sk_pack_weight)
SK_OP(SkConv, sk_conv)
SK_OP(SkConvWeightGrad, sk_conv_weight_grad)
SK_OP(SkUnpackWeightGrad, sk_unpack_weight_grad)
