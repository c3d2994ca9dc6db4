// SPDX-License-Identifier: Apache-2.0
// op_sequence  several ops in inference form, one after the other, as one op: what MindSpore spends on each op it calls
//              is spent once, and what the steps hand to each other stays in memory of ours that is used again and
//              again
//   inputs     the tensors that come from outside, whatever the steps use them for; the last one holds the constants,
//              if there are any
//   output     the first output of the last step
// Values are numbered: the inputs from 0 on, then the constants, then the first output of each step. Attributes:
//   inputs     how many inputs there are
//   constants  of each constant its rank and its dimensions, all in one list; absent if there are none
//   steps      names of the ops, separated by commas
//   operands   for each step the numbers of the values that are its inputs, all in one list
//   <i>.<name> attribute `name` of step i
// The tensor of the constants begins with kSamples values of each input but the first and itself, as they were when it
// was made: an input that has others now does not belong to it. Each constant begins at a multiple of kAligned values.
// Each step checks its own shapes, so a wrong one is named by the op that cannot take it.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "bindings/sequence.h"
#include "cpu/memory.h"
#include "cpu/parts.h"

namespace sknet_ops::glue {
namespace {

constexpr const char* kName = "op_sequence";
constexpr int64_t kSamples = 8;   // of an input, from its first value to its last
constexpr int64_t kAligned = 16;  // floats

// The attributes of one step.
class StepExtra final : public mindspore::AotExtra {
 public:
  StepExtra(mindspore::AotExtra& all, int step) : all_(all), prefix_(std::to_string(step) + ".") {}
  bool HasAttr(std::string name) override { return all_.HasAttr(prefix_ + name); }
  bool GetAttrBool(std::string name) override { return all_.GetAttrBool(prefix_ + name); }
  int64_t GetAttrInt(std::string name) override { return all_.GetAttrInt(prefix_ + name); }
  float GetAttrFloat(std::string name) override { return all_.GetAttrFloat(prefix_ + name); }
  std::string GetAttrStr(std::string name) override { return all_.GetAttrStr(prefix_ + name); }
  std::vector<int64_t> GetAttrIntVec(std::string name) override { return all_.GetAttrIntVec(prefix_ + name); }
  std::vector<float> GetAttrFloatVec(std::string name) override { return all_.GetAttrFloatVec(prefix_ + name); }
  std::vector<std::vector<int64_t>> GetAttrInt2DVec(std::string name) override {
    return all_.GetAttrInt2DVec(prefix_ + name);
  }
  std::vector<std::vector<float>> GetAttrFloat2DVec(std::string name) override {
    return all_.GetAttrFloat2DVec(prefix_ + name);
  }

 private:
  mindspore::AotExtra& all_;
  const std::string prefix_;
};

std::unique_ptr<Step> make_step(const std::string& name, mindspore::AotExtra& extra) {
  if (extra.HasAttr("training") && extra.GetAttrBool("training")) {
    fail(kName, "step " + name + ": got training, expected inference");
  }
  if (name == "conv_bn_act") return conv_bn_act_step(extra);
  if (name == "selective_kernel") return selective_kernel_step(extra);
  if (name == "max_pool") return max_pool_step(extra);
  if (name == "pool_dense") return pool_dense_step(extra);
  fail(kName, "attribute steps: got " + name + ", expected conv_bn_act, selective_kernel, max_pool or pool_dense");
}

struct SequenceAttrs : mindspore::AotKernelData, Sequence {
  SequenceAttrs(const char* op, mindspore::AotExtra& extra) {
    inputs = static_cast<int>(int_attr(op, extra, "inputs"));
    if (extra.HasAttr("constants")) read_constants(op, ints_attr(op, extra, "constants"));
    outside = inputs + static_cast<int>(constants.size());
    const Dims operands = ints_attr(op, extra, "operands");
    std::string names = str_attr(op, extra, "steps");
    auto next = operands.begin();
    for (size_t at = 0; at <= names.size();) {
      const size_t end = std::min(names.find(',', at), names.size());
      StepExtra own(extra, static_cast<int>(links.size()));
      Link link{make_step(names.substr(at, end - at), own), {}};
      const int count = link.step->inputs(), values = outside + static_cast<int>(links.size());
      if (operands.end() - next < count) fail(op, "attribute operands: got too few for " + names);
      for (int i = 0; i < count; ++i, ++next) {
        const int most = link.step->is_map(i) ? values : outside;  // weights come from outside
        const bool constant_map = link.step->is_map(i) && *next >= inputs && *next < outside;
        if (*next < 0 || *next >= most || constant_map) {
          fail(op, "attribute operands: got " + std::to_string(*next) + " for input " + std::to_string(i) +
                       " of step " + std::to_string(links.size()) + ", expected 0.." + std::to_string(most - 1));
        }
        link.operands.push_back(static_cast<int>(*next));
      }
      links.push_back(std::move(link));
      at = end + 1;
    }
    if (next != operands.end()) fail(op, "attribute operands: got more than the inputs of " + names);
  }

  void read_constants(const char* op, const Dims& ranks_and_dims) {
    floats = kSamples * std::max(inputs - 2, 0);
    for (auto at = ranks_and_dims.begin(); at != ranks_and_dims.end();) {
      int64_t rank = *at++;
      if (rank < 0 || rank > ranks_and_dims.end() - at)
        fail(op, "attribute constants: got a list that ends in a shape");
      floats = (floats + kAligned - 1) / kAligned * kAligned;
      constants.push_back({{at, at + rank}, floats});
      int64_t values = 1;
      for (; rank-- > 0; ++at) {
        if (*at < 1 || __builtin_mul_overflow(values, *at, &values)) fail(op, "attribute constants: got no shape");
      }
      if (__builtin_add_overflow(floats, values, &floats) || floats > int64_t{1} << 40) {
        fail(op, "attribute constants: got too many values");
      }
    }
    if (inputs < 2) fail(op, "attribute constants: got some, and no input to hold them");
  }

  int inputs;
  std::vector<Result> constants;
  int64_t floats = 0;  // of the input that holds them
  mutable Plan plan;   // of the shapes that came last; only under g_lock
};

std::mutex g_lock;  // one sequence at a time, as ops run one at a time
cpu::GrowingFloats g_memory;

std::vector<Dims> all_dims(const SequenceAttrs& a, const Shapes& in) {
  std::vector<Dims> dims;
  for (int i = 0; i < a.inputs; ++i) dims.push_back(in.dims(i));
  for (const Result& constant : a.constants) dims.push_back(constant.dims);
  return dims;
}

bool has_plan(const SequenceAttrs& a, const Shapes& in) {
  if (a.plan.outside.empty()) return false;
  for (int i = 0; i < a.inputs; ++i) {
    const check::TensorShape shape = in[i];
    const Dims& known = a.plan.outside[i];
    if (shape.ndim != static_cast<int>(known.size()) || !std::equal(known.begin(), known.end(), shape.dims))
      return false;
  }
  return true;
}

void check_constants(const SequenceAttrs& a, const Shapes& in) {
  if (!a.constants.empty()) check::same_shape(kName, "constants", in[a.inputs - 1], {a.floats});
}

// Throws if the inputs are not those that the constants were made with.
void check_samples(const SequenceAttrs& a, const Plan& plan, void** params) {
  if (a.constants.empty()) return;
  const float* known = static_cast<float*>(params[a.inputs - 1]);
  for (int i = 1; i < a.inputs - 1; ++i, known += kSamples) {
    const float* input = static_cast<float*>(params[i]);
    const int64_t last = size(plan.outside[i]) - 1;
    if (last < 0) continue;
    float now[kSamples];
    for (int64_t s = 0; s < kSamples; ++s) now[s] = input[last * s / (kSamples - 1)];
    if (std::memcmp(now, known, sizeof now) != 0) {
      fail(kName, "input " + std::to_string(i) +
                      ": got other weights than freeze(constant=True) has seen, and it keeps " +
                      "what belongs to those: freeze again");
    }
  }
}

// The buffers of one step, as its own C entry would get them.
class Buffers {
 public:
  void clear() { data_.clear(), ndims_.clear(), dims_.clear(), shapes_.clear(); }
  void add(const Dims& dims, void* data) {
    shapes_.push_back(dims);
    data_.push_back(data);
    ndims_.push_back(static_cast<int>(dims.size()));
  }
  // Images [first, first + count) of a tensor whose memory begins with image `from`.
  void add_images(const Dims& dims, float* data, int64_t from, int64_t first, int64_t count) {
    const int64_t image = dims[0] > 0 ? size(dims) / dims[0] : 0;
    add(dims, data + (first - from) * image);
    shapes_.back()[0] = count;
  }
  void run(const Step& step) {
    for (Dims& shape : shapes_) dims_.push_back(shape.data());
    const profile::Timer timer(step.name(), static_cast<int>(data_.size()), ndims_.data(), dims_.data());
    step.run(Shapes(ndims_.data(), dims_.data()), data_.data());
  }

 private:
  std::vector<void*> data_;
  std::vector<Dims> shapes_;
  std::vector<int> ndims_;
  std::vector<int64_t*> dims_;
};

struct Run {
  const SequenceAttrs& a;
  const Plan& plan;
  void** params;
  float* memory;

  float* constant(int index) const { return static_cast<float*>(params[a.inputs - 1]) + a.constants[index].offset; }

  // Steps [from, to) on images [first, first + count).
  void steps(size_t from, size_t to, int64_t first, int64_t count) const {
    Buffers buffers;
    const auto add_result = [&](size_t step, size_t output) {
      const Result& made = plan.results[step][output];
      const bool last = step + 1 == a.links.size() && output == 0;
      float* data = last ? static_cast<float*>(params[a.inputs]) : memory + made.offset;
      const bool whole = plan.whole[step] && (output == 0 || step >= plan.apart);
      buffers.add_images(made.dims, data, whole ? 0 : first, first, count);
    };
    for (size_t i = from; i < to; ++i) {
      const Link& link = a.links[i];
      buffers.clear();
      for (size_t o = 0; o < link.operands.size(); ++o) {
        const int value = link.operands[o];
        if (value >= a.outside) {
          add_result(value - a.outside, 0);
        } else if (value >= a.inputs) {
          buffers.add(plan.outside[value], constant(value - a.inputs));
        } else if (link.step->is_map(static_cast<int>(o))) {
          buffers.add_images(plan.outside[value], static_cast<float*>(params[value]), 0, first, count);
        } else {
          buffers.add(plan.outside[value], params[value]);
        }
      }
      for (size_t output = 0; output < plan.results[i].size(); ++output) add_result(i, output);
      buffers.run(*link.step);
    }
  }
};

struct OpSequence {
  using Attrs = SequenceAttrs;
  static constexpr const char* kName = glue::kName;
  static int inputs(const Attrs& a) { return a.inputs; }
  static int outputs(const Attrs&) { return 1; }
  static std::string input_name(const Attrs&, int i) { return "input " + std::to_string(i); }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    if (!a.constants.empty() && known(in[a.inputs - 1])) check_constants(a, in);
    return {a.results_of(all_dims(a, in)).back()[0].dims};
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const std::lock_guard<std::mutex> guard(g_lock);
    if (!has_plan(a, in)) {
      check_constants(a, in);
      a.plan = a.plan_for(all_dims(a, in));
    }
    const Plan& plan = a.plan;
    check_samples(a, plan, params);
    const Run run{a, plan, params, g_memory.at_least(plan.floats)};
    const cpu::PartsOf parts(plan.images);
    for (int64_t n = 0; plan.apart > 0 && n < plan.images; n += plan.together) {
      run.steps(0, plan.apart, n, std::min(plan.together, plan.images - n));
    }
    run.steps(plan.apart, a.links.size(), 0, plan.images);
  }
};

}  // namespace

template <>
inline constexpr bool is_counted<OpSequence> = false;

}  // namespace sknet_ops::glue

SKNET_OPS_MINDSPORE_OP(op_sequence, sknet_ops::glue::OpSequence)
