// SPDX-License-Identifier: Apache-2.0
// Gradient of the branches: du (n, branches, positions, channels) = attention * dy, through the weighted sum, plus
// dpooled / positions, through the attention; either part alone where the ops are called alone.
//   dy (n, positions, channels), attention (n, branches, channels);
//   dhidden (reduced, n), fc_reduce (reduced, channels): dpooled = dhidden^T fc_reduce
#include "sk_common.h"

namespace sknet_ops::ascend {

template <typename T>
class BranchGrad {
 public:
  __aicore__ inline BranchGrad(const RowsTiling& tiling, GM_ADDR dy, GM_ADDR attention, GM_ADDR dhidden,
                               GM_ADDR fc_reduce, GM_ADDR du)
      : t_(tiling) {
    dy_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(dy));
    du_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(du));
    attention_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(attention));
    dhidden_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dhidden));
    fc_reduce_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(fc_reduce));
    const uint32_t tile = t_.rows * t_.width;
    pipe_.InitBuffer(in_, 2, tile * sizeof(T));
    pipe_.InitBuffer(out_, 2, tile * sizeof(T));
    pipe_.InitBuffer(wide_, kConverts<T> ? tile * sizeof(float) : 32);
    pipe_.InitBuffer(work_, tile * sizeof(float));
    pipe_.InitBuffer(attention_in_, 1, t_.branches * t_.width * sizeof(float));
    pipe_.InitBuffer(dpooled_, t_.width * sizeof(float));
    pipe_.InitBuffer(values_, kStep * 32);
    pipe_.InitBuffer(weights_, kStep * t_.width * sizeof(float));
  }

  __aicore__ inline void Process() {
    const int32_t blocks = t_.channels / t_.width;
    for (int32_t task = GetBlockIdx(); task < t_.n * t_.splits * blocks; task += GetBlockNum()) {
      Task(task / blocks / t_.splits, task / blocks % t_.splits, task % blocks * t_.width);
    }
  }

 private:
  static constexpr int32_t kStep = 16;  // hidden units at a time

  __aicore__ inline void Task(int32_t image, int32_t split, int32_t channel) {
    const int32_t tiles = CeilDiv(t_.positions, t_.rows);
    const int32_t first = static_cast<int64_t>(tiles) * split / t_.splits;
    const int32_t last = static_cast<int64_t>(tiles) * (split + 1) / t_.splits;
    if (t_.with_pooled) {
      Pooled(image, channel);
    }
    LocalTensor<float> attention;
    if (t_.with_attention) {
      LocalTensor<float> loading = attention_in_.AllocTensor<float>();
      LoadRows(loading, attention_[static_cast<int64_t>(image) * t_.branches * t_.channels + channel], t_.branches,
               t_.width, t_.channels);
      attention_in_.EnQue(loading);
      attention = attention_in_.DeQue<float>();
    }
    for (int32_t tile = first; tile < last; ++tile) {
      Tile(image, tile * t_.rows, channel, attention);
    }
    if (t_.with_attention) {
      attention_in_.FreeTensor(attention);
    }
  }

  // dpooled / positions of one image and these channels.
  __aicore__ inline void Pooled(int32_t image, int32_t channel) {
    const int32_t width = t_.width;
    LocalTensor<float> sum = dpooled_.Get<float>(), values = values_.Get<float>(), weights = weights_.Get<float>();
    Duplicate(sum, 0.0f, width);
    PipeBarrier<PIPE_V>();
    for (int32_t unit = 0; unit < t_.reduced; unit += kStep) {
      const int32_t units = Min(kStep, t_.reduced - unit);
      Sync<HardEvent::V_MTE2>(pipe_);
      Sync<HardEvent::S_MTE2>(pipe_);
      // Each value fills a block of 32 bytes of its own.
      LoadRows(values, dhidden_[static_cast<int64_t>(unit) * t_.n + image], units, 1, t_.n);
      LoadRows(weights, fc_reduce_[static_cast<int64_t>(unit) * t_.channels + channel], units, width, t_.channels);
      Sync<HardEvent::MTE2_S>(pipe_);
      Sync<HardEvent::MTE2_V>(pipe_);
      for (int32_t i = 0; i < units; ++i) {
        Axpy(sum, weights[i * width], values.GetValue(i * 8) / t_.positions, width);
        PipeBarrier<PIPE_V>();
      }
    }
  }

  __aicore__ inline void Tile(int32_t image, int32_t row, int32_t channel, const LocalTensor<float>& attention) {
    const int32_t width = t_.width, rows = Min(t_.rows, t_.positions - row), n = rows * width;
    LocalTensor<float> work = work_.Get<float>();
    LocalTensor<T> in;
    LocalTensor<float> dy;
    if (t_.with_attention) {
      LocalTensor<T> loading = in_.template AllocTensor<T>();
      LoadRows(loading, dy_[(static_cast<int64_t>(image) * t_.positions + row) * t_.channels + channel], rows, width,
               t_.channels);
      in_.EnQue(loading);
      in = in_.template DeQue<T>();
      dy = AsFloat(in, wide_.Get<float>(), n);
    }
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      if (t_.with_attention) {
        Mul(work, dy, attention[branch * width], width, rows, EachRow(width));
      } else {
        Duplicate(work, 0.0f, n);
      }
      PipeBarrier<PIPE_V>();
      if (t_.with_pooled) {
        Add(work, work, dpooled_.Get<float>(), width, rows, EachRow(width));
        PipeBarrier<PIPE_V>();
      }
      LocalTensor<T> leaving = out_.template AllocTensor<T>();
      FromFloat(leaving, work, n);
      PipeBarrier<PIPE_V>();
      out_.EnQue(leaving);
      LocalTensor<T> done = out_.template DeQue<T>();
      const int64_t to = (static_cast<int64_t>(image) * t_.branches + branch) * t_.positions + row;
      StoreRows(du_[to * t_.channels + channel], done, rows, width, t_.channels);
      out_.FreeTensor(done);
    }
    if (t_.with_attention) {
      in_.FreeTensor(in);
    }
  }

  RowsTiling t_;
  TPipe pipe_;
  TQue<TPosition::VECIN, 2> in_;
  TQue<TPosition::VECIN, 1> attention_in_;
  TQue<TPosition::VECOUT, 2> out_;
  TBuf<TPosition::VECCALC> wide_, work_, dpooled_;
  TBuf<TPosition::VECIN> values_, weights_;
  GlobalTensor<T> dy_, du_;
  GlobalTensor<float> attention_, dhidden_, fc_reduce_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_branch_grad(GM_ADDR dy, GM_ADDR attention, GM_ADDR dhidden, GM_ADDR fc_reduce,
                                                     GM_ADDR du, GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::RowsTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::BranchGrad<DTYPE_DY> kernel(tiling_data, dy, attention, dhidden, fc_reduce, du);
  kernel.Process();
}
