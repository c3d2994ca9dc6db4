// SPDX-License-Identifier: Apache-2.0
// y (n, positions, channels) = sum over branches of attention (n, branches, channels) * u (n, branches, positions,
// channels). A task is a share of one image's positions and 16 to 64 channels.
#include "sk_common.h"

namespace sknet_ops::ascend {

template <typename T>
class SkSelect {
 public:
  __aicore__ inline SkSelect(const RowsTiling& tiling, GM_ADDR u, GM_ADDR attention, GM_ADDR y) : t_(tiling) {
    u_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(u));
    attention_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(attention));
    y_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(y));
    const uint32_t tile = t_.rows * t_.width;
    pipe_.InitBuffer(in_, 2, tile * sizeof(T));
    pipe_.InitBuffer(out_, 2, tile * sizeof(T));
    pipe_.InitBuffer(wide_, kConverts<T> ? tile * sizeof(float) : 32);
    pipe_.InitBuffer(product_, tile * sizeof(float));
    pipe_.InitBuffer(sum_, tile * sizeof(float));
    pipe_.InitBuffer(attention_in_, 1, t_.branches * t_.width * sizeof(float));
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
    LocalTensor<float> loading = attention_in_.AllocTensor<float>();
    LoadRows(loading, attention_[static_cast<int64_t>(image) * t_.branches * t_.channels + channel], t_.branches,
             t_.width, t_.channels);
    attention_in_.EnQue(loading);
    LocalTensor<float> attention = attention_in_.DeQue<float>();
    for (int32_t tile = first; tile < last; ++tile) {
      Tile(image, tile * t_.rows, channel, attention);
    }
    attention_in_.FreeTensor(attention);
  }

  __aicore__ inline void Tile(int32_t image, int32_t row, int32_t channel, const LocalTensor<float>& attention) {
    const int32_t width = t_.width, rows = Min(t_.rows, t_.positions - row), n = rows * width;
    LocalTensor<float> sum = sum_.Get<float>(), product = product_.Get<float>();
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      const int64_t at = (static_cast<int64_t>(image) * t_.branches + branch) * t_.positions + row;
      LocalTensor<T> loading = in_.template AllocTensor<T>();
      LoadRows(loading, u_[at * t_.channels + channel], rows, width, t_.channels);
      in_.EnQue(loading);
      LocalTensor<T> in = in_.template DeQue<T>();
      const LocalTensor<float> u = AsFloat(in, wide_.Get<float>(), n);
      Mul(branch == 0 ? sum : product, u, attention[branch * width], width, rows, EachRow(width));
      PipeBarrier<PIPE_V>();
      in_.FreeTensor(in);
      if (branch > 0) {
        Add(sum, sum, product, n);
        PipeBarrier<PIPE_V>();
      }
    }
    LocalTensor<T> leaving = out_.template AllocTensor<T>();
    FromFloat(leaving, sum, n);
    PipeBarrier<PIPE_V>();
    out_.EnQue(leaving);
    LocalTensor<T> done = out_.template DeQue<T>();
    const int64_t to = static_cast<int64_t>(image) * t_.positions + row;
    StoreRows(y_[to * t_.channels + channel], done, rows, width, t_.channels);
    out_.FreeTensor(done);
  }

  RowsTiling t_;
  TPipe pipe_;
  TQue<TPosition::VECIN, 2> in_;
  TQue<TPosition::VECIN, 1> attention_in_;
  TQue<TPosition::VECOUT, 2> out_;
  TBuf<TPosition::VECCALC> wide_, product_, sum_;
  GlobalTensor<T> u_, y_;
  GlobalTensor<float> attention_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_select(GM_ADDR u, GM_ADDR attention, GM_ADDR y, GM_ADDR workspace,
                                                GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::RowsTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::SkSelect<DTYPE_U> kernel(tiling_data, u, attention, y);
  kernel.Process();
}
