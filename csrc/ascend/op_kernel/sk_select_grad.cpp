// SPDX-License-Identifier: Apache-2.0
// Gradient of the attention: dattention (n, splits, branches, channels), shares of the sum over positions of
// u (n, branches, positions, channels) * dy (n, positions, channels). The gradient of u is sk_branch_grad's.
#include "sk_common.h"

namespace sknet_ops::ascend {

template <typename T>
class SkSelectGrad {
 public:
  __aicore__ inline SkSelectGrad(const RowsTiling& tiling, GM_ADDR dy, GM_ADDR u, GM_ADDR dattention) : t_(tiling) {
    dy_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(dy));
    u_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(u));
    dattention_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dattention));
    const uint32_t tile = t_.rows * t_.width;
    pipe_.InitBuffer(dy_in_, 2, tile * sizeof(T));
    pipe_.InitBuffer(u_in_, 2, tile * sizeof(T));
    pipe_.InitBuffer(wide_dy_, kConverts<T> ? tile * sizeof(float) : 32);
    pipe_.InitBuffer(wide_u_, kConverts<T> ? tile * sizeof(float) : 32);
    pipe_.InitBuffer(product_, tile * sizeof(float));
    pipe_.InitBuffer(out_, 1, t_.branches * t_.width * sizeof(float));
  }

  __aicore__ inline void Process() {
    const int32_t blocks = t_.channels / t_.width;
    for (int32_t task = GetBlockIdx(); task < t_.n * t_.splits * blocks; task += GetBlockNum()) {
      Task(task / blocks / t_.splits, task / blocks % t_.splits, task % blocks * t_.width);
    }
  }

 private:
  __aicore__ inline void Task(int32_t image, int32_t split, int32_t channel) {
    const int32_t tiles = CeilDiv(t_.positions, t_.rows);
    const int32_t first = static_cast<int64_t>(tiles) * split / t_.splits;
    const int32_t last = static_cast<int64_t>(tiles) * (split + 1) / t_.splits;
    LocalTensor<float> sums = out_.AllocTensor<float>();
    Duplicate(sums, 0.0f, t_.branches * t_.width);
    PipeBarrier<PIPE_V>();
    for (int32_t tile = first; tile < last; ++tile) {
      Tile(image, tile * t_.rows, channel, sums);
    }
    out_.EnQue(sums);
    LocalTensor<float> done = out_.DeQue<float>();
    const int64_t to = (static_cast<int64_t>(image) * t_.splits + split) * t_.branches * t_.channels + channel;
    StoreRows(dattention_[to], done, t_.branches, t_.width, t_.channels);
    out_.FreeTensor(done);
  }

  __aicore__ inline void Tile(int32_t image, int32_t row, int32_t channel, const LocalTensor<float>& sums) {
    const int32_t width = t_.width, rows = Min(t_.rows, t_.positions - row), n = rows * width;
    LocalTensor<T> loading = dy_in_.template AllocTensor<T>();
    LoadRows(loading, dy_[(static_cast<int64_t>(image) * t_.positions + row) * t_.channels + channel], rows, width,
             t_.channels);
    dy_in_.EnQue(loading);
    LocalTensor<T> dy_tile = dy_in_.template DeQue<T>();
    const LocalTensor<float> dy = AsFloat(dy_tile, wide_dy_.Get<float>(), n);
    LocalTensor<float> product = product_.Get<float>();
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      const int64_t at = (static_cast<int64_t>(image) * t_.branches + branch) * t_.positions + row;
      LocalTensor<T> coming = u_in_.template AllocTensor<T>();
      LoadRows(coming, u_[at * t_.channels + channel], rows, width, t_.channels);
      u_in_.EnQue(coming);
      LocalTensor<T> u_tile = u_in_.template DeQue<T>();
      const LocalTensor<float> u = AsFloat(u_tile, wide_u_.Get<float>(), n);
      Mul(product, u, dy, n);
      PipeBarrier<PIPE_V>();
      u_in_.FreeTensor(u_tile);
      SumRows(product, rows, width);
      Add(sums[branch * width], sums[branch * width], product, width);
      PipeBarrier<PIPE_V>();
    }
    dy_in_.FreeTensor(dy_tile);
  }

  RowsTiling t_;
  TPipe pipe_;
  TQue<TPosition::VECIN, 2> dy_in_, u_in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> wide_dy_, wide_u_, product_;
  GlobalTensor<T> dy_, u_;
  GlobalTensor<float> dattention_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_select_grad(GM_ADDR dy, GM_ADDR u, GM_ADDR dattention, GM_ADDR workspace,
                                                     GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::RowsTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::SkSelectGrad<DTYPE_DY> kernel(tiling_data, dy, u, dattention);
  kernel.Process();
}
