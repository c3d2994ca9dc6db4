// SPDX-License-Identifier: Apache-2.0
// Weights of every branch to the form that the cube reads: groups narrower than 16 channels lie block-diagonally, so
// that `kin` channels of several groups are multiplied at once.
//   weight (branch, c_out, taps, cin)  ->  packed (branch, c_out, taps, kin), zero outside a channel's own group
#include "sk_common.h"

namespace sknet_ops::ascend {

template <typename T>
class PackWeight {
 public:
  __aicore__ inline PackWeight(const WeightTiling& tiling, GM_ADDR weight, GM_ADDR packed) : t_(tiling) {
    weight_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(weight));
    packed_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(packed));
    padded_ = CeilDiv(t_.cin * sizeof(T), 32) * 32;
    pipe_.InitBuffer(rows_, t_.rows * padded_);
    pipe_.InitBuffer(zeros_, t_.rows * t_.kin * sizeof(T));
  }

  __aicore__ inline void Process() {
    LocalTensor<T> zeros = zeros_.template Get<T>();
    Duplicate(zeros, static_cast<T>(0), t_.rows * t_.kin);
    Sync<HardEvent::V_MTE3>(pipe_);
    int32_t task = GetBlockIdx();
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      for (; task < t_.groups; task += GetBlockNum()) {
        Group(branch, task);
      }
      task -= t_.groups;  // blocks take turns over all branches together
    }
  }

 private:
  // One group's rows (output channel, tap), of cin channels each.
  __aicore__ inline void Group(int32_t branch, int32_t group) {
    const int32_t total = t_.cout * t_.taps[branch];
    for (int32_t first = 0; first < total; first += t_.rows) {
      const int32_t rows = Min(t_.rows, total - first);
      const int64_t row = static_cast<int64_t>(group) * total + first;
      LocalTensor<T> values = rows_.template Get<T>(), zeros = zeros_.template Get<T>();
      LoadRows(values, weight_[t_.w_branch[branch] + row * t_.cin], rows, t_.cin, t_.cin);
      const GlobalTensor<T> to = packed_[t_.p_branch[branch] + row * t_.kin];
      StoreRows(to, zeros, 1, rows * t_.kin, rows * t_.kin);
      Sync<HardEvent::MTE2_MTE3>(pipe_);
      PipeBarrier<PIPE_MTE3>();  // over the zeros
      StoreRows(to[group % (t_.kin / t_.cin) * t_.cin], values, rows, t_.cin, t_.kin);
      Sync<HardEvent::MTE3_MTE2>(pipe_);
    }
  }

  WeightTiling t_;
  uint32_t padded_;
  TPipe pipe_;
  TBuf<TPosition::VECIN> rows_;
  TBuf<TPosition::VECOUT> zeros_;
  GlobalTensor<T> weight_, packed_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_pack_weight(GM_ADDR weight, GM_ADDR packed, GM_ADDR workspace,
                                                     GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::WeightTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::PackWeight<DTYPE_WEIGHT> kernel(tiling_data, weight, packed);
  kernel.Process();
}
