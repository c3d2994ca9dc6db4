// SPDX-License-Identifier: Apache-2.0
// Gradient of ReLU and normalisation, first half: by channel, the sums over rows of the gradient behind the ReLU and of
// its product with z normalised.
//   du, z (n, branches, positions, channels); mean, inv_std, gamma, beta (branches, channels)
//   -> partial (branches, splits, 2, channels)
#include "sk_norm_grad.h"

namespace sknet_ops::ascend {

template <typename T>
class NormGradPartial {
 public:
  __aicore__ inline NormGradPartial(const RowsTiling& tiling, GM_ADDR du, GM_ADDR z, GM_ADDR mean, GM_ADDR inv_std,
                                    GM_ADDR gamma, GM_ADDR beta, GM_ADDR partial)
      : t_(tiling), tile_(tiling, pipe_, du, z, mean, inv_std, gamma, beta) {
    partial_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(partial));
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
    tile_.Open(branch, channel);
    LocalTensor<float> sums = out_.AllocTensor<float>();
    Duplicate(sums, 0.0f, 2 * width);
    PipeBarrier<PIPE_V>();
    for (int32_t unit = share.first; unit < share.last; ++unit) {
      const int32_t rows = share.Rows(t_, unit);
      const int64_t row = (static_cast<int64_t>(unit / share.tiles) * t_.branches + branch) * t_.positions +
                          unit % share.tiles * t_.rows;
      tile_.Load(row * t_.channels + channel, rows);
      LocalTensor<float> gradient = tile_.Gradient(), product = tile_.Normalised();
      Mul(product, product, gradient, rows * width);
      PipeBarrier<PIPE_V>();
      SumRows(gradient, rows, width);
      SumRows(product, rows, width);
      Add(sums, sums, gradient, width);
      Add(sums[width], sums[width], product, width);
      PipeBarrier<PIPE_V>();
    }
    tile_.Close();
    out_.EnQue(sums);
    LocalTensor<float> done = out_.DeQue<float>();
    StoreRows(partial_[(static_cast<int64_t>(branch) * t_.splits + split) * 2 * t_.channels + channel], done, 2, width,
              t_.channels);
    out_.FreeTensor(done);
  }

  RowsTiling t_;
  TPipe pipe_;
  NormGradTile<T> tile_;
  TQue<TPosition::VECOUT, 1> out_;
  GlobalTensor<float> partial_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_norm_grad_partial(GM_ADDR du, GM_ADDR z, GM_ADDR mean, GM_ADDR inv_std,
                                                           GM_ADDR gamma, GM_ADDR beta, GM_ADDR partial,
                                                           GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::RowsTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::NormGradPartial<DTYPE_Z> kernel(tiling_data, du, z, mean, inv_std, gamma, beta, partial);
  kernel.Process();
}
