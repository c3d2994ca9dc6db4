// SPDX-License-Identifier: Apache-2.0
// Adds up the partial sums of sk_conv_weight_grad and picks each group's own channels.
//   partial (branch, splits, c_out, kin / 16, taps * 16)  ->  dweight (branch, c_out, taps, cin), float
#include "sk_common.h"

namespace sknet_ops::ascend {

template <typename T>
class UnpackWeightGrad {
 public:
  __aicore__ inline UnpackWeightGrad(const WeightTiling& tiling, GM_ADDR partial, GM_ADDR dweight) : t_(tiling) {
    partial_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(partial));
    dweight_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dweight));
    const uint32_t tile = t_.rows * Pitch() * sizeof(float);
    pipe_.InitBuffer(in_, 2, tile);
    pipe_.InitBuffer(out_, 2, tile);
  }

  __aicore__ inline void Process() {
    int32_t task = GetBlockIdx();
    const int32_t channels = t_.groups * t_.cout;
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      for (; task < channels; task += GetBlockNum()) {
        const int32_t runs = t_.cin / t_.run, most = t_.rows / t_.taps[branch];
        for (int32_t first = 0; first < runs; first += most) {
          Runs(branch, task, first, Min(most, runs - first));
        }
      }
      task -= channels;
    }
  }

 private:
  static constexpr int32_t kC0 = 32 / sizeof(T);  // of the kernel that wrote the partial sums

  __aicore__ inline int32_t Pitch() const { return CeilDiv(t_.run, 8) * 8; }

  // All taps of some runs of channels of one output channel.
  __aicore__ inline void Runs(int32_t branch, int32_t channel, int32_t first, int32_t count) {
    const int32_t taps = t_.taps[branch], n = count * taps * Pitch();
    const int32_t offset = channel / t_.cout % (t_.kin / t_.cin) * t_.cin;  // of the group in its block
    LocalTensor<float> sum = out_.AllocTensor<float>();
    for (int32_t split = 0; split < t_.splits; ++split) {
      LocalTensor<float> loading = in_.AllocTensor<float>();
      const int64_t row =
          t_.p_branch[branch] + split * t_.p_split[branch] + static_cast<int64_t>(channel) * t_.kin * taps;
      for (int32_t i = 0; i < count; ++i) {
        const int32_t at = offset + (first + i) * t_.run;
        LoadRows(loading[i * taps * Pitch()], partial_[row + at / kC0 * taps * kC0 + at % kC0], taps, t_.run, kC0);
      }
      in_.EnQue(loading);
      LocalTensor<float> part = in_.DeQue<float>();
      if (split == 0) {
        Muls(sum, part, 1.0f, n);
      } else {
        Add(sum, sum, part, n);
      }
      PipeBarrier<PIPE_V>();
      in_.FreeTensor(part);
    }
    out_.EnQue(sum);
    LocalTensor<float> done = out_.DeQue<float>();
    const int64_t to = t_.w_branch[branch] + static_cast<int64_t>(channel) * taps * t_.cin + first * t_.run;
    for (int32_t i = 0; i < count; ++i) {
      StoreRows(dweight_[to + i * t_.run], done[i * taps * Pitch()], taps, t_.run, t_.cin);
    }
    out_.FreeTensor(done);
  }

  WeightTiling t_;
  TPipe pipe_;
  TQue<TPosition::VECIN, 2> in_;
  TQue<TPosition::VECOUT, 2> out_;
  GlobalTensor<float> partial_, dweight_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_unpack_weight_grad(GM_ADDR partial, GM_ADDR like, GM_ADDR dweight,
                                                            GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::WeightTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::UnpackWeightGrad<DTYPE_LIKE> kernel(tiling_data, partial, dweight);
  kernel.Process();
}
