// SPDX-License-Identifier: Apache-2.0
// Gradient of ReLU and normalisation, second half.
//   du, z (n, branches, positions, channels); mean, inv_std, gamma, beta (branches, channels);
//   partial (branches, partials, 2, channels) of sk_norm_grad_partial
//   -> dz like z; dgamma, dbeta (branches, channels)
#include "sk_norm_grad.h"

namespace sknet_ops::ascend {

template <typename T>
class NormGrad {
 public:
  __aicore__ inline NormGrad(const RowsTiling& tiling, GM_ADDR du, GM_ADDR z, GM_ADDR mean, GM_ADDR inv_std,
                             GM_ADDR gamma, GM_ADDR beta, GM_ADDR partial, GM_ADDR dz, GM_ADDR dgamma, GM_ADDR dbeta)
      : t_(tiling), tile_(tiling, pipe_, du, z, mean, inv_std, gamma, beta) {
    partial_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(partial));
    dz_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(dz));
    dgamma_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dgamma));
    dbeta_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dbeta));
    pipe_.InitBuffer(out_, 2, t_.rows * t_.width * sizeof(T));
    pipe_.InitBuffer(partial_in_, 2, 2 * t_.width * sizeof(float));
    pipe_.InitBuffer(sums_, 2 * t_.width * sizeof(float));
    pipe_.InitBuffer(sums_out_, 1, 2 * t_.width * sizeof(float));
  }

  __aicore__ inline void Process() {
    const int32_t blocks = t_.channels / t_.width;
    for (int32_t task = GetBlockIdx(); task < t_.n * t_.splits * blocks; task += GetBlockNum()) {
      Task(task / blocks / t_.splits, task / blocks % t_.splits, task % blocks * t_.width);
    }
  }

 private:
  __aicore__ inline void Task(int32_t image, int32_t split, int32_t channel) {
    const int32_t width = t_.width, tiles = CeilDiv(t_.positions, t_.rows);
    const int32_t first = static_cast<int64_t>(tiles) * split / t_.splits;
    const int32_t last = static_cast<int64_t>(tiles) * (split + 1) / t_.splits;
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      tile_.Open(branch, channel);
      Sums(branch, channel, image == 0 && split == 0);
      for (int32_t tile = first; tile < last; ++tile) {
        const int32_t row = tile * t_.rows, rows = Min(t_.rows, t_.positions - row), n = rows * width;
        const int64_t at =
            ((static_cast<int64_t>(image) * t_.branches + branch) * t_.positions + row) * t_.channels + channel;
        tile_.Load(at, rows);
        LocalTensor<float> gradient = tile_.Gradient(), normalised = tile_.Normalised(), sums = sums_.Get<float>();
        if (t_.training) {  // the batch statistics depend on z too
          Sub(gradient, gradient, sums, width, rows, EachRow(width));
          Mul(normalised, normalised, sums[width], width, rows, EachRow(width));
          PipeBarrier<PIPE_V>();
          Sub(gradient, gradient, normalised, n);
          PipeBarrier<PIPE_V>();
        }
        Mul(gradient, gradient, tile_.Scale(), width, rows, EachRow(width));
        PipeBarrier<PIPE_V>();
        LocalTensor<T> leaving = out_.template AllocTensor<T>();
        FromFloat(leaving, gradient, n);
        PipeBarrier<PIPE_V>();
        out_.EnQue(leaving);
        LocalTensor<T> done = out_.template DeQue<T>();
        StoreRows(dz_[at], done, rows, width, t_.channels);
        out_.FreeTensor(done);
      }
      tile_.Close();
    }
  }

  // Leaves both sums over all rows, divided by their count, in sums_; one task of each (branch, channel) writes them.
  __aicore__ inline void Sums(int32_t branch, int32_t channel, bool writes) {
    const int32_t width = t_.width;
    LocalTensor<float> sums = sums_.Get<float>();
    Duplicate(sums, 0.0f, 2 * width);
    PipeBarrier<PIPE_V>();
    for (int32_t split = 0; split < t_.partials; ++split) {
      LocalTensor<float> loading = partial_in_.AllocTensor<float>();
      LoadRows(loading, partial_[(static_cast<int64_t>(branch) * t_.partials + split) * 2 * t_.channels + channel], 2,
               width, t_.channels);
      partial_in_.EnQue(loading);
      LocalTensor<float> part = partial_in_.DeQue<float>();
      Add(sums, sums, part, 2 * width);
      PipeBarrier<PIPE_V>();
      partial_in_.FreeTensor(part);
    }
    if (writes) {
      LocalTensor<float> leaving = sums_out_.AllocTensor<float>();
      Muls(leaving, sums, 1.0f, 2 * width);
      sums_out_.EnQue(leaving);
      LocalTensor<float> done = sums_out_.DeQue<float>();
      const int64_t to = static_cast<int64_t>(branch) * t_.channels + channel;
      StoreRows(dbeta_[to], done, 1, width, width);
      StoreRows(dgamma_[to], done[width], 1, width, width);
      sums_out_.FreeTensor(done);
      PipeBarrier<PIPE_V>();
    }
    Muls(sums, sums, 1.0f / (static_cast<float>(t_.n) * t_.positions), 2 * width);
    PipeBarrier<PIPE_V>();
  }

  RowsTiling t_;
  TPipe pipe_;
  NormGradTile<T> tile_;
  TQue<TPosition::VECOUT, 2> out_;
  TQue<TPosition::VECIN, 2> partial_in_;
  TQue<TPosition::VECOUT, 1> sums_out_;
  TBuf<TPosition::VECCALC> sums_;
  GlobalTensor<T> dz_;
  GlobalTensor<float> partial_, dgamma_, dbeta_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_norm_grad(GM_ADDR du, GM_ADDR z, GM_ADDR mean, GM_ADDR inv_std, GM_ADDR gamma,
                                                   GM_ADDR beta, GM_ADDR partial, GM_ADDR dz, GM_ADDR dgamma,
                                                   GM_ADDR dbeta, GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::RowsTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::NormGrad<DTYPE_Z> kernel(tiling_data, du, z, mean, inv_std, gamma, beta, partial, dz, dgamma,
                                              dbeta);
  kernel.Process();
}
