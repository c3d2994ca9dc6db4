// SPDX-License-Identifier: Apache-2.0
// Statistics of z by channel, first half: each task takes a share of the rows of one branch and 16 to 64 channels.
//   z (n, branches, positions, channels)  ->  partial (branches, splits, 2, channels): mean, sum of squared deviations
// One pass over global memory: a tile's mean and squares are taken in UB, then merged into those of the tiles before.
#include "sk_common.h"

namespace sknet_ops::ascend {

template <typename T>
class NormPartial {
 public:
  __aicore__ inline NormPartial(const RowsTiling& tiling, GM_ADDR z, GM_ADDR partial) : t_(tiling) {
    z_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(z));
    partial_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(partial));
    const uint32_t tile = t_.rows * t_.width;
    pipe_.InitBuffer(in_, 2, tile * sizeof(T));
    pipe_.InitBuffer(wide_, kConverts<T> ? tile * sizeof(float) : 32);
    pipe_.InitBuffer(sum_, tile * sizeof(float));
    pipe_.InitBuffer(squares_, tile * sizeof(float));
    pipe_.InitBuffer(room_, kLanes * sizeof(float));
    pipe_.InitBuffer(out_, 1, 2 * t_.width * sizeof(float));
  }

  __aicore__ inline void Process() {
    const int32_t blocks = t_.channels / t_.width;
    for (int32_t task = GetBlockIdx(); task < t_.branches * t_.splits * blocks; task += GetBlockNum()) {
      Task(task / blocks / t_.splits, task / blocks % t_.splits, task % blocks * t_.width);
    }
  }

 private:
  __aicore__ inline void Task(int32_t branch, int32_t split, int32_t channel) {
    const int32_t width = t_.width;
    const StatisticsShare share(t_, split, t_.splits);
    LocalTensor<float> result = out_.AllocTensor<float>();
    LocalTensor<float> mean = result, squares = result[width], room = room_.Get<float>();
    Duplicate(result, 0.0f, 2 * width);
    PipeBarrier<PIPE_V>();
    float count = 0;
    for (int32_t unit = share.first; unit < share.last; ++unit) {
      const int32_t rows = share.Rows(t_, unit), n = rows * width;
      const int64_t row = (static_cast<int64_t>(unit / share.tiles) * t_.branches + branch) * t_.positions +
                          unit % share.tiles * t_.rows;
      LocalTensor<T> loading = in_.template AllocTensor<T>();
      LoadRows(loading, z_[row * t_.channels + channel], rows, width, t_.channels);
      in_.EnQue(loading);

      LocalTensor<T> in = in_.template DeQue<T>();
      const LocalTensor<float> z = AsFloat(in, wide_.Get<float>(), n);
      LocalTensor<float> tile_mean = sum_.Get<float>(), tile_squares = squares_.Get<float>();
      Muls(tile_mean, z, 1.0f / rows, n);
      PipeBarrier<PIPE_V>();
      SumRows(tile_mean, rows, width);
      Sub(tile_squares, z, tile_mean, width, rows, EachRow(width));
      PipeBarrier<PIPE_V>();
      in_.FreeTensor(in);
      Mul(tile_squares, tile_squares, tile_squares, n);
      PipeBarrier<PIPE_V>();
      SumRows(tile_squares, rows, width);
      MergeStatistics(mean, squares, count, tile_mean, tile_squares, static_cast<float>(rows), room, width);
      count += rows;
    }
    out_.EnQue(result);
    LocalTensor<float> done = out_.DeQue<float>();
    const int64_t to = (static_cast<int64_t>(branch) * t_.splits + split) * 2 * t_.channels + channel;
    StoreRows(partial_[to], done, 2, width, t_.channels);
    out_.FreeTensor(done);
  }

  RowsTiling t_;
  TPipe pipe_;
  TQue<TPosition::VECIN, 2> in_;
  TQue<TPosition::VECOUT, 1> out_;
  TBuf<TPosition::VECCALC> wide_, sum_, squares_, room_;
  GlobalTensor<T> z_;
  GlobalTensor<float> partial_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_norm_partial(GM_ADDR z, GM_ADDR partial, GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::RowsTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::NormPartial<DTYPE_Z> kernel(tiling_data, z, partial);
  kernel.Process();
}
