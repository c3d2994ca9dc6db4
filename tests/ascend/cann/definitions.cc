// SPDX-License-Identifier: Apache-2.0
// Calls what sk_op_defs.cpp registered, as CANN would. One line of JSON an op.
#include <cstdio>
#include <cstdlib>

#include "register/op_def_registry.h"

namespace {

void print_tensors(const char* key, const std::vector<ops::OpParamDef>& tensors) {
  std::printf("\"%s\": [", key);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& t = tensors[i];
    std::printf("%s[\"%s\", %d, %d]", i ? ", " : "", t.name.c_str(), t.types.at(0), t.types.at(1));
  }
  std::printf("], ");
}

// Type column `half` of the definition: 0 is float16, 1 float.
std::vector<gert::CompileTimeTensorDesc> descs(const std::vector<ops::OpParamDef>& tensors, int column) {
  std::vector<gert::CompileTimeTensorDesc> result;
  for (const auto& t : tensors) {
    result.push_back({t.types.at(column)});
  }
  return result;
}

}  // namespace

// Arguments: op, count of sizes, sizes...
int main(int argc, char** argv) {
  if (argc < 3) {
    for (const auto& [name, op] : ops::registry()) {
      std::printf("{\"op\": \"%s\", ", name.c_str());
      print_tensors("inputs", op->inputs);
      print_tensors("outputs", op->outputs);
      std::printf("\"attrs\": [\"%s %s\", \"%s %s\"], \"config\": \"%s\"}\n", op->attrs.at(0).name.c_str(),
                  op->attrs.at(0).kind.c_str(), op->attrs.at(1).name.c_str(), op->attrs.at(1).kind.c_str(),
                  op->core.config.c_str());
    }
    return 0;
  }
  const ops::OpDef& op = *ops::registry().at(argv[1]);
  gert::RuntimeAttrs attrs;
  for (int i = 2; i < argc; ++i) {
    attrs.ints.values.push_back(std::atoll(argv[i]));
  }
  attrs.floats.values = {1e-5f, 0.1f};
  gert::InferShapeContext shape{{attrs, descs(op.inputs, 0), descs(op.outputs, 0)},
                                std::vector<gert::Shape>(op.outputs.size())};
  gert::InferDataTypeContext type{
      {attrs, descs(op.inputs, 0), std::vector<gert::CompileTimeTensorDesc>(op.outputs.size())}};
  gert::TilingContext tiling{{attrs, descs(op.inputs, 0), descs(op.outputs, 0)}, {}, 0, 0};
  if (op.infer_shape(&shape) != ge::GRAPH_SUCCESS || op.infer_type(&type) != ge::GRAPH_SUCCESS ||
      op.core.tiling(&tiling) != ge::GRAPH_SUCCESS) {
    return 1;
  }
  std::printf("{\"shapes\": [");
  for (size_t i = 0; i < shape.shapes.size(); ++i) {
    std::printf("%s[", i ? ", " : "");
    for (size_t d = 0; d < shape.shapes[i].dims.size(); ++d) {
      std::printf("%s%lld", d ? ", " : "", static_cast<long long>(shape.shapes[i].dims[d]));
    }
    std::printf("]");
  }
  std::printf("], \"types\": [");
  for (size_t i = 0; i < type.outputs.size(); ++i) {
    std::printf("%s%d", i ? ", " : "", type.outputs[i].type);
  }
  std::printf("], \"blocks\": %u, \"workspace\": %zu, \"tiling\": \"", tiling.blocks, tiling.workspace);
  for (size_t i = 0; i < tiling.data.used; ++i) {
    std::printf("%02x", tiling.data.bytes[i]);
  }
  std::printf("\"}\n");
  return 0;
}
