// SPDX-License-Identifier: Apache-2.0
// Calls every op, forward and gradient, training and inference, of the reference and of each instruction set that can
// run, on odd shapes with heap buffers of exactly the right size. Built with the address and undefined-behaviour
// sanitizers, which end the process at the first fault. Called with "compare" it holds the results to the reference's.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "sknet_ops/ops.h"

void release_scratch();

namespace {

using namespace sknet_ops;

constexpr float kEps = 1e-5f, kMomentum = 0.1f;

// What every buffer held when it was freed, in order, if asked for.
using Contents = std::vector<std::vector<double>>;
Contents* recorder = nullptr;

// The buffers of one call, freed with it.
template <typename T>
class Heap {
 public:
  ~Heap() {
    for (size_t i = 0; recorder != nullptr && i < blocks_.size(); ++i) {
      recorder->emplace_back(blocks_[i].get(), blocks_[i].get() + sizes_[i]);
    }
  }
  // Values in -1..1, the same in every run.
  T* filled(int64_t size) {
    T* data = empty(size);
    for (int64_t i = 0; i < size; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      data[i] = static_cast<T>(static_cast<int32_t>(state_ >> 32)) / static_cast<T>(2147483648.0);
    }
    return data;
  }
  T* positive(int64_t size) {
    T* data = filled(size);
    for (int64_t i = 0; i < size; ++i) {
      data[i] = std::abs(data[i]) + static_cast<T>(0.5);
    }
    return data;
  }
  T* empty(int64_t size) {
    blocks_.emplace_back(new T[size]);
    sizes_.push_back(size);
    return blocks_.back().get();
  }
  T* saved(int64_t size, bool training) { return training ? empty(size) : nullptr; }
  NormTensors<T> norm(int64_t channels) {
    return {filled(channels), filled(channels), filled(channels), positive(channels)};
  }

 private:
  std::vector<std::unique_ptr<T[]>> blocks_;
  std::vector<int64_t> sizes_;
  uint64_t state_ = 1;
};

int64_t out_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

struct ConvCase {
  int64_t n, c_in, h, w, c_out, groups, kernel, stride, padding, dilation;
  bool relu, residual;
};

constexpr ConvCase kConv[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 0, 1, true, false},      // one of everything
    {0, 3, 5, 5, 4, 1, 3, 1, 1, 1, true, true},       // no image
    {2, 3, 13, 13, 17, 1, 7, 2, 3, 1, true, false},   // stem
    {3, 17, 7, 7, 33, 1, 1, 1, 0, 1, true, true},     // pointwise
    {2, 15, 7, 7, 33, 1, 1, 2, 0, 1, false, false},   // strided pointwise
    {1, 7, 13, 11, 7, 1, 1, 3, 0, 1, true, false},    // stride larger than the kernel
    {1, 15, 7, 13, 17, 1, 3, 1, 1, 1, true, true},    // odd channels
    {1, 7, 13, 13, 15, 1, 5, 3, 2, 1, true, false},   // stride 3
    {2, 4, 1, 13, 4, 1, 3, 1, 1, 1, true, false},     // one row
    {2, 4, 13, 1, 4, 1, 3, 2, 1, 1, true, true},      // one column
    {3, 3, 2, 2, 5, 1, 5, 1, 2, 1, true, false},      // map smaller than the kernel
    {1, 7, 7, 7, 7, 1, 3, 1, 20, 20, true, false},    // dilation larger than the map
    {2, 3, 3, 2, 4, 1, 1, 1, 2, 1, true, false},      // padding beyond the kernel
    {2, 17, 7, 13, 17, 17, 3, 1, 1, 1, true, false},  // depthwise
    {1, 7, 13, 7, 14, 7, 3, 2, 1, 1, true, false},    // depthwise twice as wide
    {2, 32, 9, 13, 32, 8, 3, 1, 1, 1, true, true},    // 4 channels a group
    {1, 16, 7, 7, 24, 2, 3, 2, 1, 1, true, false},    // 8 in, 12 out
    {1, 64, 7, 7, 64, 2, 3, 1, 2, 2, true, false},    // 32 channels a group
    {3, 128, 7, 5, 256, 8, 3, 2, 1, 1, true, true},   // groups whose channels fill vectors
    {2, 128, 3, 4, 384, 8, 3, 1, 5, 5, true, false},  // the same with taps that meet only padding
    {1, 8, 83, 85, 8, 8, 3, 2, 3, 3, true, false},    // strided planes beyond a cache
    {3, 130, 2, 3, 70, 1, 3, 1, 1, 1, true, false},   // many channels on a small map
    {1, 3, 5, 70, 3, 1, 7, 1, 3, 1, true, false},     // rows of many vectors
    {1, 4, 16, 32, 8, 1, 3, 1, 0, 1, true, false},    // no padding, whole vectors
    {1, 64, 13, 11, 64, 1, 3, 1, 1, 1, true, true},   // Winograd's way, there and back
    {6, 64, 7, 9, 64, 2, 3, 1, 2, 2, true, false},    // the same by several images, odd maps
    {7, 64, 1, 90, 64, 2, 3, 1, 1, 1, true, false},   // one row
    {2, 48, 9, 11, 64, 1, 1, 1, 0, 1, true, true},    // weight gradient as a matrix product
    {2, 80, 13, 14, 64, 1, 3, 2, 1, 1, true, false},  // the same for nine taps over phases
    {3, 65, 5, 7, 144, 1, 1, 1, 0, 1, true, true},    // products on tiles, strips made once
    {1, 33, 19, 23, 40, 1, 1, 1, 0, 1, true, false},  // positions shared out
    {2, 64, 9, 13, 48, 1, 1, 2, 0, 1, true, true},    // strided
    {3, 64, 9, 13, 96, 1, 3, 2, 1, 1, true, true},    // a product for every tap
    {1, 32, 13, 8, 160, 1, 3, 3, 2, 2, true, false},  // the same of stride 3
};

template <typename T>
void run(const OpTable<T>& table, const ConvCase& c, bool training) {
  Heap<T> heap;
  const int64_t h_out = out_size(c.h, c.kernel, c.stride, c.padding, c.dilation);
  const int64_t w_out = out_size(c.w, c.kernel, c.stride, c.padding, c.dilation);
  const ConvBnActParams p{
      {c.n, c.c_in, c.h, c.w, c.c_out, c.groups, c.kernel, c.stride, c.padding, c.dilation, h_out, w_out},
      {training, c.relu, kEps, kMomentum}};
  const int64_t in = c.n * c.c_in * c.h * c.w, out = c.n * c.c_out * h_out * w_out;
  const int64_t weights = c.c_out * (c.c_in / c.groups) * c.kernel * c.kernel;
  const ConvBnActForward<T> f{heap.filled(in),
                              heap.filled(weights),
                              heap.norm(c.c_out),
                              c.residual ? heap.filled(out) : nullptr,
                              heap.empty(out),
                              heap.saved(out, training),
                              heap.saved(c.c_out, training),
                              heap.saved(c.c_out, training)};
  table.conv_bn_act(p, f);
  release_scratch();
  if (!training) {
    ConvBnActParams frozen = p;
    frozen.kept = make_kept_weights();
    for (int call = 0; call < 2; ++call) table.conv_bn_act(frozen, f);
    free_kept_weights(frozen.kept);
    release_scratch();
  }
  const ConvBnActBackward<T> b{heap.filled(out),
                               f.x,
                               f.weight,
                               f.norm.gamma,
                               f.norm.beta,
                               f.y,
                               f.z,
                               f.mean,
                               f.inv_std,
                               f.norm.moving_mean,
                               f.norm.moving_variance,
                               heap.empty(in),
                               heap.empty(weights),
                               heap.empty(c.c_out),
                               heap.empty(c.c_out),
                               c.residual ? heap.empty(out) : nullptr};
  table.conv_bn_act_grad(p, b);
  release_scratch();
}

struct SkCase {
  int64_t n, c_in, h, w, c_out, groups, stride;
  int branches;
  bool split_input;
  int64_t kernel[kMaxBranches], dilation[kMaxBranches];
  int64_t c_reduced;
  bool relu;
};

constexpr SkCase kSk[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, false, {1}, {1}, 1, true},                       // one of everything
    {0, 4, 5, 5, 4, 2, 1, 2, false, {3, 3}, {1, 2}, 3, true},                 // no image
    {2, 32, 13, 9, 32, 8, 1, 2, false, {3, 3}, {1, 2}, 8, true},              // 4 channels a group
    {2, 32, 7, 13, 32, 4, 2, 2, false, {3, 3}, {1, 2}, 32, true},             // strided
    {3, 16, 13, 13, 17, 1, 1, 2, true, {3, 3}, {1, 2}, 9, true},              // dense split
    {3, 256, 7, 7, 256, 8, 1, 2, false, {3, 3}, {1, 2}, 32, true},            // groups whose channels fill vectors
    {3, 7, 3, 7, 15, 1, 1, 1, false, {3}, {1}, 7, true},                      // one branch
    {2, 21, 7, 7, 7, 1, 1, 3, true, {3, 3, 3}, {1, 2, 3}, 5, true},           // three split branches
    {1, 16, 13, 7, 8, 4, 1, 4, false, {1, 3, 5, 7}, {1, 1, 1, 1}, 8, true},   // four sizes
    {1, 16, 13, 13, 8, 2, 3, 4, true, {3, 5, 3, 7}, {1, 1, 3, 1}, 17, true},  // four, split, stride 3
    {2, 17, 7, 7, 17, 17, 1, 2, false, {3, 3}, {1, 2}, 8, true},              // depthwise
    {1, 7, 3, 2, 7, 1, 1, 2, false, {3, 3}, {5, 40}, 8, true},                // dilation larger than the map
    {5, 33, 1, 1, 15, 1, 1, 2, false, {3, 3}, {1, 2}, 8, true},               // one value a map
    {1, 8, 3, 35, 8, 2, 1, 2, false, {3, 3}, {1, 2}, 8, false},               // vector tails, no ReLU
};

// Tensors that sk_conv and selective_kernel share.
template <typename T, typename Tensors>
void fill_branches(const SkConvParams& p, Heap<T>& heap, Tensors& t) {
  for (int m = 0; m < p.branches; ++m) {
    t.weight[m] = heap.filled(p.c_out * (p.branch_c_in() / p.groups) * p.kernel[m] * p.kernel[m]);
    t.norm[m] = heap.norm(p.c_out);
  }
}

template <typename T, typename Forward, typename Backward>
void fill_branch_gradients(const SkConvParams& p, Heap<T>& heap, const Forward& f, Backward& b) {
  for (int m = 0; m < p.branches; ++m) {
    b.weight[m] = f.weight[m];
    b.norm[m] = f.norm[m];
    b.dweight[m] = heap.empty(p.c_out * (p.branch_c_in() / p.groups) * p.kernel[m] * p.kernel[m]);
    b.dgamma[m] = heap.empty(p.c_out);
    b.dbeta[m] = heap.empty(p.c_out);
  }
}

SkConvParams params(const SkCase& c, bool training) {
  SkConvParams p{};
  p.n = c.n, p.c_in = c.c_in, p.h = c.h, p.w = c.w, p.c_out = c.c_out, p.groups = c.groups, p.stride = c.stride;
  p.branches = c.branches;
  p.split_input = c.split_input;
  p.norm = {training, c.relu, kEps, kMomentum};
  for (int m = 0; m < c.branches; ++m) {
    p.kernel[m] = c.kernel[m];
    p.dilation[m] = c.dilation[m];
    p.padding[m] = c.dilation[m] * (c.kernel[m] - 1) / 2;
  }
  p.h_out = out_size(c.h, p.kernel[0], p.stride, p.padding[0], p.dilation[0]);
  p.w_out = out_size(c.w, p.kernel[0], p.stride, p.padding[0], p.dilation[0]);
  return p;
}

template <typename T>
void run_sk_conv(const OpTable<T>& table, const SkCase& c, bool training) {
  Heap<T> heap;
  const SkConvParams p = params(c, training);
  const int64_t in = p.n * p.c_in * p.h * p.w, stats = p.branches * p.c_out;
  const int64_t out = p.n * stats * p.h_out * p.w_out;
  SkConvForward<T> f{};
  f.x = heap.filled(in);
  fill_branches(p, heap, f);
  f.u = heap.empty(out);
  f.z = heap.saved(out, training);
  f.mean = heap.saved(stats, training);
  f.inv_std = heap.saved(stats, training);
  table.sk_conv(p, f);
  release_scratch();
  SkConvBackward<T> b{};
  b.du = heap.filled(out);
  b.x = f.x;
  b.z = f.z;
  b.mean = f.mean;
  b.inv_std = f.inv_std;
  b.dx = heap.empty(in);
  fill_branch_gradients(p, heap, f, b);
  table.sk_conv_grad(p, b);
  release_scratch();
}

template <typename T>
void run_attention_and_select(const OpTable<T>& table, const SkCase& c, bool training) {
  Heap<T> heap;
  const SkAttentionParams p{c.n, c.c_out, c.h, c.w, c.branches, c.c_reduced, {training, true, kEps, kMomentum}};
  const int64_t size = p.n * p.branches * p.c * p.h * p.w, gates = p.n * p.branches * p.c;
  const int64_t reduce = p.c_reduced * p.c, select = p.branches * p.c * p.c_reduced;
  SkAttentionForward<T> f{};
  f.u = heap.filled(size);
  f.fc_reduce = heap.filled(reduce);
  f.norm = heap.norm(p.c_reduced);
  f.fc_select = heap.filled(select);
  f.attention = heap.empty(gates);
  f.pooled = heap.saved(p.n * p.c, training);
  f.hidden = heap.saved(p.n * p.c_reduced, training);
  f.mean = heap.saved(p.c_reduced, training);
  f.inv_std = heap.saved(p.c_reduced, training);
  table.sk_attention(p, f);
  release_scratch();
  const SkAttentionBackward<T> b{heap.filled(gates),
                                 f.u,
                                 f.fc_reduce,
                                 f.norm,
                                 f.fc_select,
                                 f.attention,
                                 f.pooled,
                                 f.hidden,
                                 f.mean,
                                 f.inv_std,
                                 heap.empty(size),
                                 heap.empty(reduce),
                                 heap.empty(p.c_reduced),
                                 heap.empty(p.c_reduced),
                                 heap.empty(select)};
  table.sk_attention_grad(p, b);
  release_scratch();

  const SkSelectParams s{p.n, p.c, p.h, p.w, p.branches};
  const int64_t out = p.n * p.c * p.h * p.w;
  table.sk_select(s, {f.u, f.attention, heap.empty(out)});
  release_scratch();
  table.sk_select_grad(s, {heap.filled(out), f.u, f.attention, heap.empty(size), heap.empty(gates)});
  release_scratch();
}

template <typename T>
void run_selective_kernel(const OpTable<T>& table, const SkCase& c, bool training) {
  Heap<T> heap;
  const SelectiveKernelParams p{params(c, training), c.c_reduced, {training, true, kEps, kMomentum}};
  const SkConvParams& v = p.conv;
  const int64_t in = v.n * v.c_in * v.h * v.w, stats = v.branches * v.c_out;
  const int64_t out = v.n * v.c_out * v.h_out * v.w_out;
  const int64_t reduce = p.c_reduced * v.c_out, select = stats * p.c_reduced;
  SelectiveKernelForward<T> f{};
  f.x = heap.filled(in);
  fill_branches(v, heap, f);
  f.fc_reduce = heap.filled(reduce);
  f.attn_norm = heap.norm(p.c_reduced);
  f.fc_select = heap.filled(select);
  f.y = heap.empty(out);
  f.attention = heap.empty(v.n * stats);
  f.z = heap.saved(v.branches * out, training);
  f.mean = heap.saved(stats, training);
  f.inv_std = heap.saved(stats, training);
  f.pooled = heap.saved(v.n * v.c_out, training);
  f.hidden = heap.saved(v.n * p.c_reduced, training);
  f.attn_mean = heap.saved(p.c_reduced, training);
  f.attn_inv_std = heap.saved(p.c_reduced, training);
  table.selective_kernel(p, f);
  release_scratch();
  SelectiveKernelBackward<T> b{};
  b.dy = heap.filled(out);
  b.x = f.x;
  fill_branch_gradients(v, heap, f, b);
  b.fc_reduce = f.fc_reduce;
  b.attn_norm = f.attn_norm;
  b.fc_select = f.fc_select;
  b.attention = f.attention;
  b.z = f.z;
  b.mean = f.mean;
  b.inv_std = f.inv_std;
  b.pooled = f.pooled;
  b.hidden = f.hidden;
  b.attn_mean = f.attn_mean;
  b.attn_inv_std = f.attn_inv_std;
  b.dx = heap.empty(in);
  b.dfc_reduce = heap.empty(reduce);
  b.dattn_gamma = heap.empty(p.c_reduced);
  b.dattn_beta = heap.empty(p.c_reduced);
  b.dfc_select = heap.empty(select);
  table.selective_kernel_grad(p, b);
  release_scratch();
}

struct PoolCase {
  int64_t n, c, h, w, kernel, stride, pad_top, pad_left, h_out, w_out;
};

constexpr PoolCase kPool[] = {
    {1, 1, 1, 1, 1, 1, 0, 0, 1, 1},     // one of everything
    {0, 3, 5, 5, 3, 2, 1, 1, 3, 3},     // no image
    {2, 3, 14, 14, 3, 2, 1, 1, 7, 7},   // centred stem
    {2, 3, 14, 14, 3, 2, 0, 0, 7, 7},   // the same, padded on one side
    {2, 3, 13, 35, 3, 2, 1, 1, 7, 18},  // odd sizes
    {1, 2, 5, 131, 3, 2, 0, 0, 2, 65},  // rows of many vectors, none padded
    {1, 2, 6, 64, 3, 2, 0, 0, 3, 32},   // whole vectors
    {2, 3, 1, 40, 3, 2, 1, 1, 1, 20},   // one row
    {2, 3, 40, 1, 3, 2, 1, 1, 20, 1},   // one column
    {2, 3, 8, 9, 2, 2, 0, 0, 4, 4},     // patches
    {2, 3, 9, 20, 5, 1, 2, 2, 9, 20},   // windows that overlap much
    {2, 3, 11, 10, 2, 3, 1, 1, 4, 4},   // stride larger than the kernel
};

template <typename T>
void run_max_pool(const OpTable<T>& table, const PoolCase& c) {
  Heap<T> heap;
  const MaxPoolParams p{c.n, c.c, c.h, c.w, c.kernel, c.stride, c.pad_top, c.pad_left, c.h_out, c.w_out};
  const int64_t in = c.n * c.c * c.h * c.w, out = c.n * c.c * c.h_out * c.w_out;
  const T* x = heap.filled(in);
  table.max_pool(p, {x, heap.empty(out)});
  release_scratch();
  table.max_pool_grad(p, {heap.filled(out), x, heap.empty(in)});
  release_scratch();
}

template <typename T>
void run_all(const OpTable<T>& table, const char* name) {
  for (const bool training : {true, false}) {
    for (const ConvCase& c : kConv) {
      run(table, c, training);
    }
    for (const SkCase& c : kSk) {
      run_sk_conv(table, c, training);
      run_attention_and_select(table, c, training);
      run_selective_kernel(table, c, training);
    }
  }
  for (const PoolCase& c : kPool) {
    run_max_pool(table, c);
  }
  std::printf("clean: %s\n", name);
  std::fflush(stdout);
}

}  // namespace

// Largest difference in units of the largest value; infinite for what is not a number on one side only.
double difference(const std::vector<double>& got, const std::vector<double>& want) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    largest = std::max(largest, std::abs(want[i]));
    if (!(std::isnan(got[i]) && std::isnan(want[i]))) {
      const double d = std::abs(got[i] - want[i]);
      worst = std::isnan(d) ? INFINITY : std::max(worst, d);
    }
  }
  return worst / std::max(largest, 1e-3);
}

template <typename T>
Contents recorded(const OpTable<T>& table, const char* name) {
  Contents contents;
  recorder = &contents;
  run_all(table, name);
  recorder = nullptr;
  return contents;
}

// Every instruction set against the reference in double, allowed a few times the error of the reference in float.
int compare() {
  const Contents exact = recorded(reference::table<double>(), "reference double");
  const Contents single = recorded(reference::table<float>(), "reference float");
  int sets = 0, wrong = 0;
  for (const cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512, cpu::Isa::kNeon, cpu::Isa::kAmx}) {
    if (cpu::why_not(isa) != nullptr) {
      continue;
    }
    const Contents got = recorded(cpu::table(isa), cpu::isa_name(isa));
    double worst = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      const double error = difference(got[i], exact[i]), allowed = 1e-4 + 8 * difference(single[i], exact[i]);
      worst = std::max(worst, error);
      if (got.size() != exact.size() || !(error <= allowed)) {
        std::printf("%s: buffer %zu: error %g, allowed %g\n", cpu::isa_name(isa), i, error, allowed);
        ++wrong;
      }
    }
    std::printf("%s agrees in %zu buffers, worst %g\n", cpu::isa_name(isa), exact.size(), worst);
    ++sets;
  }
  return sets == 0 || wrong != 0;
}

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "compare") == 0) {
    return compare();
  }
  if (argc > 1) {  // proves that the sanitizer is on: reads past the end of a buffer
    const std::unique_ptr<float[]> one(new float[1]);
    std::printf("%f\n", one[std::atoi(argv[1])]);
  }
  run_all(reference::table<float>(), "reference float");
  run_all(reference::table<double>(), "reference double");
  for (const cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512, cpu::Isa::kNeon, cpu::Isa::kAmx}) {
    if (cpu::why_not(isa) != nullptr) {
      continue;
    }
    for (const int threads : {1, 3}) {
      cpu::set_num_threads(threads);
      run_all(cpu::table(isa), cpu::isa_name(isa));
    }
  }
  return 0;
}
