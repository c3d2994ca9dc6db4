// SPDX-License-Identifier: Apache-2.0
// The reducing half of the attention. A task is a few hidden units, of all images, so that their statistics over the
// batch need no other core.
//   pooled_parts (n, partials, channels), fc_reduce (reduced, channels); gamma, beta, moving_mean, moving_variance
//   (reduced)
//   -> pooled (n, channels); hidden before the norm, activated after norm and ReLU (reduced, n);
//      mean, inv_std, new_mean, new_variance (reduced)
#include "sk_common.h"

namespace sknet_ops::ascend {

class AttentionHidden {
 public:
  __aicore__ inline AttentionHidden(const AttentionTiling& tiling, GM_ADDR pooled_parts, GM_ADDR fc_reduce,
                                    GM_ADDR gamma, GM_ADDR beta, GM_ADDR moving_mean, GM_ADDR moving_variance,
                                    GM_ADDR pooled, GM_ADDR hidden, GM_ADDR activated, GM_ADDR mean, GM_ADDR inv_std,
                                    GM_ADDR new_mean, GM_ADDR new_variance)
      : t_(tiling) {
    pooled_parts_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(pooled_parts));
    fc_reduce_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(fc_reduce));
    pooled_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(pooled));
    hidden_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(hidden));
    activated_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(activated));
    GM_ADDR const vectors[] = {gamma, beta, moving_mean, moving_variance, mean, inv_std, new_mean, new_variance};
    for (int32_t i = 0; i < 8; ++i) {
      vector_[i].SetGlobalBuffer(reinterpret_cast<__gm__ float*>(vectors[i]));
    }
    lanes_ = CeilDiv(t_.n, 8) * 8;
    pipe_.InitBuffer(parts_in_, 2, t_.channels * sizeof(float));
    pipe_.InitBuffer(pooled_out_, 1, t_.channels * sizeof(float));
    pipe_.InitBuffer(weights_in_, 1, t_.units * t_.channels * sizeof(float));
    pipe_.InitBuffer(product_, t_.channels * sizeof(float));
    pipe_.InitBuffer(hidden_out_, 1, t_.units * lanes_ * sizeof(float));
    pipe_.InitBuffer(activated_out_, 1, lanes_ * sizeof(float));
    pipe_.InitBuffer(deviation_, lanes_ * sizeof(float));
    pipe_.InitBuffer(scalars_in_, 4 * 32);
    pipe_.InitBuffer(scalars_out_, 4 * 32);
    pipe_.InitBuffer(room_, kLanes * sizeof(float));
    pipe_.InitBuffer(few_, 2 * 32);
  }

  __aicore__ inline void Process() {
    const int32_t tasks = CeilDiv(t_.reduced, t_.units);
    for (int32_t task = GetBlockIdx(); task < tasks; task += GetBlockNum()) {
      Task(task * t_.units, Min(t_.units, t_.reduced - task * t_.units));
    }
  }

 private:
  __aicore__ inline void Task(int32_t first, int32_t units) {
    LocalTensor<float> loading = weights_in_.AllocTensor<float>();
    LoadRows(loading, fc_reduce_[static_cast<int64_t>(first) * t_.channels], units, t_.channels, t_.channels);
    weights_in_.EnQue(loading);
    LocalTensor<float> weights = weights_in_.DeQue<float>();
    LocalTensor<float> hidden = hidden_out_.AllocTensor<float>();
    for (int32_t image = 0; image < t_.n; ++image) {
      LocalTensor<float> pooled = Pooled(image);
      for (int32_t i = 0; i < units; ++i) {
        LocalTensor<float> product = product_.Get<float>();
        Mul(product, pooled, weights[i * t_.channels], t_.channels);
        PipeBarrier<PIPE_V>();
        SumLanes(hidden[i * lanes_ + image], product, room_.Get<float>(), t_.channels);
      }
      pooled_out_.EnQue(pooled);
      LocalTensor<float> done = pooled_out_.DeQue<float>();
      if (first == 0) {
        StoreRows(pooled_[static_cast<int64_t>(image) * t_.channels], done, 1, t_.channels, t_.channels);
      }
      pooled_out_.FreeTensor(done);
    }
    weights_in_.FreeTensor(weights);
    for (int32_t i = 0; i < units; ++i) {
      Unit(first + i, hidden[i * lanes_]);
    }
    hidden_out_.EnQue(hidden);
    LocalTensor<float> done = hidden_out_.DeQue<float>();
    for (int32_t i = 0; i < units; ++i) {
      StoreRows(hidden_[static_cast<int64_t>(first + i) * t_.n], done[i * lanes_], 1, t_.n, t_.n);
    }
    hidden_out_.FreeTensor(done);
  }

  // All shares of one image's pooled channels.
  __aicore__ inline LocalTensor<float> Pooled(int32_t image) {
    LocalTensor<float> sum = pooled_out_.AllocTensor<float>();
    for (int32_t part = 0; part < t_.partials; ++part) {
      LocalTensor<float> loading = parts_in_.AllocTensor<float>();
      LoadRows(loading, pooled_parts_[(static_cast<int64_t>(image) * t_.partials + part) * t_.channels], 1, t_.channels,
               t_.channels);
      parts_in_.EnQue(loading);
      LocalTensor<float> more = parts_in_.DeQue<float>();
      if (part == 0) {
        Muls(sum, more, 1.0f, t_.channels);
      } else {
        Add(sum, sum, more, t_.channels);
      }
      PipeBarrier<PIPE_V>();
      parts_in_.FreeTensor(more);
    }
    return sum;
  }

  __aicore__ inline float Sum(const LocalTensor<float>& lanes) {
    LocalTensor<float> few = few_.Get<float>();
    Sync<HardEvent::S_V>(pipe_);
    SumLanes(few, lanes, room_.Get<float>(), t_.n);
    Sync<HardEvent::V_S>(pipe_);
    return few.GetValue(0);
  }

  __aicore__ inline float InvStdOf(float variance) {
    LocalTensor<float> few = few_.Get<float>();
    Sync<HardEvent::S_V>(pipe_);
    Duplicate(few, variance, 8);
    PipeBarrier<PIPE_V>();
    InvStd(few, t_.eps, few[8], 8);
    Sync<HardEvent::V_S>(pipe_);
    return few.GetValue(0);
  }

  // Statistics over the batch, norm and ReLU of one hidden unit.
  __aicore__ inline void Unit(int32_t unit, const LocalTensor<float>& hidden) {
    LocalTensor<float> given = scalars_in_.Get<float>(), deviation = deviation_.Get<float>();
    Sync<HardEvent::S_MTE2>(pipe_);
    for (int32_t i = 0; i < 4; ++i) {
      LoadRows(given[i * 8], vector_[i][unit], 1, 1, 1);
    }
    Sync<HardEvent::MTE2_S>(pipe_);
    const float gamma = given.GetValue(0), beta = given.GetValue(8);
    float mean = given.GetValue(16), variance = given.GetValue(24);
    float new_mean = mean, new_variance = variance;
    if (t_.training) {
      mean = Sum(hidden) / t_.n;
    }
    Adds(deviation, hidden, -mean, t_.n);
    PipeBarrier<PIPE_V>();
    LocalTensor<float> activated = activated_out_.AllocTensor<float>();
    if (t_.training) {
      Mul(activated, deviation, deviation, t_.n);
      PipeBarrier<PIPE_V>();
      const float squares = Sum(activated);
      variance = squares / t_.n;
      new_mean += t_.momentum * (mean - new_mean);
      new_variance += t_.momentum * (squares / (t_.n > 1 ? t_.n - 1 : 1) - new_variance);
    }
    const float inv_std = InvStdOf(variance);
    Muls(activated, deviation, inv_std * gamma, t_.n);
    PipeBarrier<PIPE_V>();
    Adds(activated, activated, beta, t_.n);
    PipeBarrier<PIPE_V>();
    Relu(activated, activated, t_.n);
    activated_out_.EnQue(activated);
    LocalTensor<float> done = activated_out_.DeQue<float>();
    StoreRows(activated_[static_cast<int64_t>(unit) * t_.n], done, 1, t_.n, t_.n);
    activated_out_.FreeTensor(done);

    const float results[] = {mean, inv_std, new_mean, new_variance};
    LocalTensor<float> leaving = scalars_out_.Get<float>();
    Sync<HardEvent::MTE3_S>(pipe_);
    for (int32_t i = 0; i < 4; ++i) {
      leaving.SetValue(i * 8, results[i]);
    }
    Sync<HardEvent::S_MTE3>(pipe_);
    for (int32_t i = 0; i < 4; ++i) {
      StoreRows(vector_[4 + i][unit], leaving[i * 8], 1, 1, 1);
    }
  }

  AttentionTiling t_;
  int32_t lanes_;  // images, rounded up to whole blocks of 32 bytes
  TPipe pipe_;
  TQue<TPosition::VECIN, 2> parts_in_;
  TQue<TPosition::VECIN, 1> weights_in_;
  TQue<TPosition::VECOUT, 1> pooled_out_, hidden_out_, activated_out_;
  TBuf<TPosition::VECCALC> product_, deviation_, room_, few_;
  TBuf<TPosition::VECIN> scalars_in_;
  TBuf<TPosition::VECOUT> scalars_out_;
  GlobalTensor<float> pooled_parts_, fc_reduce_, pooled_, hidden_, activated_, vector_[8];
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_attention_hidden(GM_ADDR pooled_parts, GM_ADDR fc_reduce, GM_ADDR gamma,
                                                          GM_ADDR beta, GM_ADDR moving_mean, GM_ADDR moving_variance,
                                                          GM_ADDR pooled, GM_ADDR hidden, GM_ADDR activated,
                                                          GM_ADDR mean, GM_ADDR inv_std, GM_ADDR new_mean,
                                                          GM_ADDR new_variance, GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::AttentionTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::AttentionHidden kernel(tiling_data, pooled_parts, fc_reduce, gamma, beta, moving_mean,
                                            moving_variance, pooled, hidden, activated, mean, inv_std, new_mean,
                                            new_variance);
  kernel.Process();
}
