// SPDX-License-Identifier: Apache-2.0
// Statistics, second half; normalise; ReLU; pool. A task is a share of one image's positions, all its branches, and 16
// to 64 channels.
//   z (n, branches, positions, channels); gamma, beta, moving_mean, moving_variance (branches, channels);
//   partial (branches, partials, 2, channels), read in training only
//   -> u like z; pooled (n, splits, channels): shares of the mean over positions of the branches' sum;
//      mean, inv_std, new_mean, new_variance (branches, channels): the moving statistics after this batch
#include "sk_common.h"

namespace sknet_ops::ascend {

template <typename T>
class NormAct {
 public:
  __aicore__ inline NormAct(const RowsTiling& tiling, GM_ADDR z, GM_ADDR gamma, GM_ADDR beta, GM_ADDR moving_mean,
                            GM_ADDR moving_variance, GM_ADDR partial, GM_ADDR u, GM_ADDR pooled, GM_ADDR mean,
                            GM_ADDR inv_std, GM_ADDR new_mean, GM_ADDR new_variance)
      : t_(tiling) {
    z_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(z));
    u_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(u));
    GM_ADDR const vectors[] = {gamma, beta, moving_mean, moving_variance, mean, inv_std, new_mean, new_variance};
    for (int32_t i = 0; i < 8; ++i) {
      vector_[i].SetGlobalBuffer(reinterpret_cast<__gm__ float*>(vectors[i]));
    }
    partial_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(partial));
    pooled_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(pooled));
    const uint32_t tile = t_.rows * t_.width;
    pipe_.InitBuffer(in_, 2, tile * sizeof(T));
    pipe_.InitBuffer(out_, 2, tile * sizeof(T));
    pipe_.InitBuffer(wide_, kConverts<T> ? tile * sizeof(float) : 32);
    pipe_.InitBuffer(work_, tile * sizeof(float));
    pipe_.InitBuffer(vectors_in_, 1, 4 * t_.width * sizeof(float));
    pipe_.InitBuffer(partial_in_, 2, 2 * t_.width * sizeof(float));
    pipe_.InitBuffer(vectors_out_, 1, 4 * t_.width * sizeof(float));
    pipe_.InitBuffer(pooled_out_, 1, t_.width * sizeof(float));
    pipe_.InitBuffer(norm_, 4 * t_.width * sizeof(float));
    pipe_.InitBuffer(room_, kLanes * sizeof(float));
  }

  __aicore__ inline void Process() {
    const int32_t blocks = t_.channels / t_.width;
    for (int32_t task = GetBlockIdx(); task < t_.n * t_.splits * blocks; task += GetBlockNum()) {
      Task(task / blocks / t_.splits, task / blocks % t_.splits, task % blocks * t_.width);
    }
  }

 private:
  enum Vector { kGamma, kBeta, kMovingMean, kMovingVariance, kMean, kInvStd, kNewMean, kNewVariance };

  __aicore__ inline void Task(int32_t image, int32_t split, int32_t channel) {
    const int32_t width = t_.width, tiles = CeilDiv(t_.positions, t_.rows);
    const int32_t first = static_cast<int64_t>(tiles) * split / t_.splits;
    const int32_t last = static_cast<int64_t>(tiles) * (split + 1) / t_.splits;
    LocalTensor<float> pooled = pooled_out_.AllocTensor<float>();
    Duplicate(pooled, 0.0f, width);
    PipeBarrier<PIPE_V>();
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      Statistics(branch, channel, image == 0 && split == 0);
      for (int32_t tile = first; tile < last; ++tile) {
        Tile(image, branch, tile * t_.rows, channel, pooled);
      }
    }
    Muls(pooled, pooled, 1.0f / t_.positions, width);
    pooled_out_.EnQue(pooled);
    LocalTensor<float> done = pooled_out_.DeQue<float>();
    const int64_t to = (static_cast<int64_t>(image) * t_.splits + split) * t_.channels + channel;
    StoreRows(pooled_[to], done, 1, width, t_.channels);
    pooled_out_.FreeTensor(done);
  }

  // Leaves mean, gamma * inv_std and beta in norm_; one task of each (branch, channel) writes the results.
  __aicore__ inline void Statistics(int32_t branch, int32_t channel, bool writes) {
    const int32_t width = t_.width;
    const int64_t at = static_cast<int64_t>(branch) * t_.channels + channel;
    LocalTensor<float> loading = vectors_in_.AllocTensor<float>();
    for (int32_t i = 0; i < 4; ++i) {
      LoadRows(loading[i * width], vector_[i][at], 1, width, width);
    }
    vectors_in_.EnQue(loading);
    LocalTensor<float> given = vectors_in_.DeQue<float>();

    LocalTensor<float> norm = norm_.Get<float>(), room = room_.Get<float>();
    LocalTensor<float> mean = norm, scale = norm[width], beta = norm[2 * width], squares = norm[3 * width];
    float count = 0;
    if (t_.training) {
      Duplicate(norm, 0.0f, 4 * width);
      PipeBarrier<PIPE_V>();
      for (int32_t split = 0; split < t_.partials; ++split) {
        const int64_t from = (static_cast<int64_t>(branch) * t_.partials + split) * 2 * t_.channels + channel;
        LocalTensor<float> coming = partial_in_.AllocTensor<float>();
        LoadRows(coming, partial_[from], 2, width, t_.channels);
        partial_in_.EnQue(coming);
        LocalTensor<float> part = partial_in_.DeQue<float>();
        const float more = StatisticsShare(t_, split, t_.partials).Count(t_);
        if (more > 0) {
          MergeStatistics(mean, squares, count, part, part[width], more, room, width);
        }
        count += more;
        partial_in_.FreeTensor(part);
      }
      Muls(scale, squares, 1.0f / count, width);
    } else {
      Muls(mean, given[kMovingMean * width], 1.0f, width);
      Muls(scale, given[kMovingVariance * width], 1.0f, width);
    }
    PipeBarrier<PIPE_V>();
    InvStd(scale, t_.eps, room, width);
    if (writes) {
      LocalTensor<float> results = vectors_out_.AllocTensor<float>();
      Muls(results, mean, 1.0f, width);
      Muls(results[width], scale, 1.0f, width);
      const float keep = t_.training ? 1.0f - t_.momentum : 1.0f;
      Muls(results[2 * width], given[kMovingMean * width], keep, width);
      Muls(results[3 * width], given[kMovingVariance * width], keep, width);
      PipeBarrier<PIPE_V>();
      if (t_.training) {
        Axpy(results[2 * width], mean, t_.momentum, width);
        Axpy(results[3 * width], squares, t_.momentum / (count > 1 ? count - 1 : 1), width);
      }
      vectors_out_.EnQue(results);
      LocalTensor<float> done = vectors_out_.DeQue<float>();
      for (int32_t i = 0; i < 4; ++i) {
        StoreRows(vector_[kMean + i][at], done[i * width], 1, width, width);
      }
      vectors_out_.FreeTensor(done);
    }
    Mul(scale, scale, given[kGamma * width], width);
    Muls(beta, given[kBeta * width], 1.0f, width);
    PipeBarrier<PIPE_V>();
    vectors_in_.FreeTensor(given);
  }

  __aicore__ inline void Tile(int32_t image, int32_t branch, int32_t row, int32_t channel,
                              const LocalTensor<float>& pooled) {
    const int32_t width = t_.width, rows = Min(t_.rows, t_.positions - row), n = rows * width;
    const int64_t at =
        ((static_cast<int64_t>(image) * t_.branches + branch) * t_.positions + row) * t_.channels + channel;
    LocalTensor<T> loading = in_.template AllocTensor<T>();
    LoadRows(loading, z_[at], rows, width, t_.channels);
    in_.EnQue(loading);

    LocalTensor<T> in = in_.template DeQue<T>();
    const LocalTensor<float> z = AsFloat(in, wide_.Get<float>(), n);
    LocalTensor<float> v = work_.Get<float>(), norm = norm_.Get<float>();
    Sub(v, z, norm, width, rows, EachRow(width));
    PipeBarrier<PIPE_V>();
    in_.FreeTensor(in);
    Mul(v, v, norm[width], width, rows, EachRow(width));
    PipeBarrier<PIPE_V>();
    Add(v, v, norm[2 * width], width, rows, EachRow(width));
    PipeBarrier<PIPE_V>();
    if (t_.relu) {
      Relu(v, v, n);
      PipeBarrier<PIPE_V>();
    }
    LocalTensor<T> leaving = out_.template AllocTensor<T>();
    FromFloat(leaving, v, n);
    out_.EnQue(leaving);
    PipeBarrier<PIPE_V>();
    SumRows(v, rows, width);
    Add(pooled, pooled, v, width);
    PipeBarrier<PIPE_V>();
    LocalTensor<T> done = out_.template DeQue<T>();
    StoreRows(u_[at], done, rows, width, t_.channels);
    out_.FreeTensor(done);
  }

  RowsTiling t_;
  TPipe pipe_;
  TQue<TPosition::VECIN, 2> in_, partial_in_;
  TQue<TPosition::VECIN, 1> vectors_in_;
  TQue<TPosition::VECOUT, 2> out_;
  TQue<TPosition::VECOUT, 1> vectors_out_, pooled_out_;
  TBuf<TPosition::VECCALC> wide_, work_, norm_, room_;
  GlobalTensor<T> z_, u_;
  GlobalTensor<float> vector_[8], partial_, pooled_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_norm_act(GM_ADDR z, GM_ADDR gamma, GM_ADDR beta, GM_ADDR moving_mean,
                                                  GM_ADDR moving_variance, GM_ADDR partial, GM_ADDR u, GM_ADDR pooled,
                                                  GM_ADDR mean, GM_ADDR inv_std, GM_ADDR new_mean, GM_ADDR new_variance,
                                                  GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::RowsTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::NormAct<DTYPE_Z> kernel(tiling_data, z, gamma, beta, moving_mean, moving_variance, partial, u,
                                             pooled, mean, inv_std, new_mean, new_variance);
  kernel.Process();
}
