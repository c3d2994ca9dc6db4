// SPDX-License-Identifier: Apache-2.0
// Gradient of the attention down to its hidden layer. A task is a few hidden units, of all images; each computes the
// logits' gradient anew, which is cheaper than handing it around.
//   attention (n, branches, channels), dattention_parts (n, partials, branches, channels), pooled (n, channels),
//   hidden, activated (reduced, n); mean, inv_std, gamma (reduced); fc_select (reduced, branches * channels)
//   -> dhidden (reduced, n), dfc_reduce (reduced, channels), dgamma, dbeta (reduced), dfc_select like fc_select
#include "sk_common.h"

namespace sknet_ops::ascend {

class AttentionGrad {
 public:
  __aicore__ inline AttentionGrad(const AttentionTiling& tiling, GM_ADDR attention, GM_ADDR dattention_parts,
                                  GM_ADDR pooled, GM_ADDR hidden, GM_ADDR activated, GM_ADDR mean, GM_ADDR inv_std,
                                  GM_ADDR gamma, GM_ADDR fc_select, GM_ADDR dhidden, GM_ADDR dfc_reduce, GM_ADDR dgamma,
                                  GM_ADDR dbeta, GM_ADDR dfc_select)
      : t_(tiling) {
    attention_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(attention));
    parts_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dattention_parts));
    pooled_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(pooled));
    hidden_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(hidden));
    activated_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(activated));
    fc_select_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(fc_select));
    dhidden_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dhidden));
    dfc_reduce_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dfc_reduce));
    dfc_select_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dfc_select));
    GM_ADDR const scalars[] = {mean, inv_std, gamma, dgamma, dbeta};
    for (int32_t i = 0; i < 5; ++i) {
      scalar_[i].SetGlobalBuffer(reinterpret_cast<__gm__ float*>(scalars[i]));
    }
    all_ = t_.branches * t_.channels;
    lanes_ = CeilDiv(t_.n, static_cast<int32_t>(kLanes)) * kLanes;
    pipe_.InitBuffer(in_, 2, all_ * sizeof(float));
    pipe_.InitBuffer(attention_in_, 1, all_ * sizeof(float));
    pipe_.InitBuffer(dlogits_, all_ * sizeof(float));
    pipe_.InitBuffer(product_, all_ * sizeof(float));
    pipe_.InitBuffer(weights_in_, 1, t_.units * all_ * sizeof(float));
    pipe_.InitBuffer(dweights_out_, 1, t_.units * all_ * sizeof(float));
    pipe_.InitBuffer(images_in_, 2 * t_.units * lanes_ * sizeof(float));
    pipe_.InitBuffer(dactivated_, t_.units * lanes_ * sizeof(float));
    pipe_.InitBuffer(normalised_, lanes_ * sizeof(float));
    pipe_.InitBuffer(zeros_, lanes_ * sizeof(float));
    pipe_.InitBuffer(mask_, CeilDiv(lanes_ / 8, 32) * 32);
    pipe_.InitBuffer(dhidden_out_, 1, lanes_ * sizeof(float));
    pipe_.InitBuffer(scalars_in_, 3 * 32);
    pipe_.InitBuffer(scalars_out_, 2 * 32);
    pipe_.InitBuffer(room_, kLanes * sizeof(float));
    pipe_.InitBuffer(few_, 32);
  }

  __aicore__ inline void Process() {
    Duplicate(zeros_.Get<float>(), 0.0f, lanes_);
    PipeBarrier<PIPE_V>();
    const int32_t tasks = CeilDiv(t_.reduced, t_.units);
    for (int32_t task = GetBlockIdx(); task < tasks; task += GetBlockNum()) {
      Task(task * t_.units, Min(t_.units, t_.reduced - task * t_.units));
    }
  }

 private:
  __aicore__ inline void Task(int32_t first, int32_t units) {
    LocalTensor<float> loading = weights_in_.AllocTensor<float>();
    LoadRows(loading, fc_select_[static_cast<int64_t>(first) * all_], units, all_, all_);
    weights_in_.EnQue(loading);
    // Comparisons go on to a multiple of 64 images: what lies beyond the last one is compared and not used.
    LocalTensor<float> activated = images_in_.Get<float>(), hidden = activated[units * lanes_];
    Sync<HardEvent::S_V>(pipe_);
    Duplicate(activated, 0.0f, 2 * units * lanes_);
    Sync<HardEvent::V_MTE2>(pipe_);
    for (int32_t i = 0; i < units; ++i) {
      LoadRows(activated[i * lanes_], activated_[static_cast<int64_t>(first + i) * t_.n], 1, t_.n, t_.n);
      LoadRows(hidden[i * lanes_], hidden_[static_cast<int64_t>(first + i) * t_.n], 1, t_.n, t_.n);
    }
    Sync<HardEvent::MTE2_S>(pipe_);
    Sync<HardEvent::MTE2_V>(pipe_);
    LocalTensor<float> weights = weights_in_.DeQue<float>(), dactivated = dactivated_.Get<float>();
    LocalTensor<float> dweights = dweights_out_.AllocTensor<float>();
    Duplicate(dweights, 0.0f, units * all_);
    PipeBarrier<PIPE_V>();
    for (int32_t image = 0; image < t_.n; ++image) {
      Logits(image);
      LocalTensor<float> dlogits = dlogits_.Get<float>(), product = product_.Get<float>();
      for (int32_t i = 0; i < units; ++i) {
        Axpy(dweights[i * all_], dlogits, activated.GetValue(i * lanes_ + image), all_);
        Mul(product, dlogits, weights[i * all_], all_);
        PipeBarrier<PIPE_V>();
        SumLanes(dactivated[i * lanes_ + image], product, room_.Get<float>(), all_);
      }
    }
    weights_in_.FreeTensor(weights);
    dweights_out_.EnQue(dweights);
    LocalTensor<float> done = dweights_out_.DeQue<float>();
    StoreRows(dfc_select_[static_cast<int64_t>(first) * all_], done, units, all_, all_);
    dweights_out_.FreeTensor(done);
    for (int32_t i = 0; i < units; ++i) {
      Unit(first + i, activated[i * lanes_], hidden[i * lanes_], dactivated[i * lanes_]);
    }
  }

  // dlogits = attention * (dattention - sum over branches of attention * dattention), of one image.
  __aicore__ inline void Logits(int32_t image) {
    const int32_t channels = t_.channels;
    LocalTensor<float> dlogits = dlogits_.Get<float>(), product = product_.Get<float>();
    for (int32_t part = 0; part < t_.partials; ++part) {
      LocalTensor<float> loading = in_.AllocTensor<float>();
      LoadRows(loading, parts_[(static_cast<int64_t>(image) * t_.partials + part) * all_], 1, all_, all_);
      in_.EnQue(loading);
      LocalTensor<float> more = in_.DeQue<float>();
      if (part == 0) {
        Muls(dlogits, more, 1.0f, all_);
      } else {
        Add(dlogits, dlogits, more, all_);
      }
      PipeBarrier<PIPE_V>();
      in_.FreeTensor(more);
    }
    LocalTensor<float> loading = attention_in_.AllocTensor<float>();
    LoadRows(loading, attention_[static_cast<int64_t>(image) * all_], 1, all_, all_);
    attention_in_.EnQue(loading);
    LocalTensor<float> attention = attention_in_.DeQue<float>();
    Mul(product, attention, dlogits, all_);
    PipeBarrier<PIPE_V>();
    for (int32_t branch = 1; branch < t_.branches; ++branch) {
      Add(product, product, product[branch * channels], channels);
      PipeBarrier<PIPE_V>();
    }
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      Sub(dlogits[branch * channels], dlogits[branch * channels], product, channels);
    }
    PipeBarrier<PIPE_V>();
    Mul(dlogits, dlogits, attention, all_);
    PipeBarrier<PIPE_V>();
    attention_in_.FreeTensor(attention);
  }

  __aicore__ inline float Sum(const LocalTensor<float>& lanes) {
    LocalTensor<float> few = few_.Get<float>();
    Sync<HardEvent::S_V>(pipe_);
    SumLanes(few, lanes, room_.Get<float>(), t_.n);
    Sync<HardEvent::V_S>(pipe_);
    return few.GetValue(0);
  }

  // Through ReLU and norm of one hidden unit, and its row of fc_reduce.
  __aicore__ inline void Unit(int32_t unit, const LocalTensor<float>& activated, const LocalTensor<float>& hidden,
                              const LocalTensor<float>& gradient) {
    LocalTensor<float> given = scalars_in_.Get<float>(), normalised = normalised_.Get<float>();
    Sync<HardEvent::S_MTE2>(pipe_);
    for (int32_t i = 0; i < 3; ++i) {
      LoadRows(given[i * 8], scalar_[i][unit], 1, 1, 1);
    }
    Sync<HardEvent::MTE2_S>(pipe_);
    const float mean = given.GetValue(0), inv_std = given.GetValue(8), gamma = given.GetValue(16);

    LocalTensor<uint8_t> closed = mask_.Get<uint8_t>();
    Compare(closed, activated, zeros_.Get<float>(), CMPMODE::LE, lanes_);
    Adds(normalised, hidden, -mean, t_.n);
    PipeBarrier<PIPE_V>();
    Select(gradient, closed, zeros_.Get<float>(), gradient, SELMODE::VSEL_TENSOR_TENSOR_MODE, t_.n);
    Muls(normalised, normalised, inv_std, t_.n);
    PipeBarrier<PIPE_V>();
    LocalTensor<float> dhidden = dhidden_out_.AllocTensor<float>();
    Mul(dhidden, gradient, normalised, t_.n);
    PipeBarrier<PIPE_V>();
    const float dbeta = Sum(gradient), dgamma = Sum(dhidden);
    Muls(dhidden, gradient, 1.0f, t_.n);
    PipeBarrier<PIPE_V>();
    if (t_.training) {
      Axpy(dhidden, normalised, -dgamma / t_.n, t_.n);
      PipeBarrier<PIPE_V>();
      Adds(dhidden, dhidden, -dbeta / t_.n, t_.n);
      PipeBarrier<PIPE_V>();
    }
    Muls(dhidden, dhidden, gamma * inv_std, t_.n);
    Sync<HardEvent::V_S>(pipe_);
    Reduce(unit, dhidden);
    dhidden_out_.EnQue(dhidden);
    LocalTensor<float> done = dhidden_out_.DeQue<float>();
    StoreRows(dhidden_[static_cast<int64_t>(unit) * t_.n], done, 1, t_.n, t_.n);
    dhidden_out_.FreeTensor(done);

    LocalTensor<float> leaving = scalars_out_.Get<float>();
    Sync<HardEvent::MTE3_S>(pipe_);
    leaving.SetValue(0, dgamma);
    leaving.SetValue(8, dbeta);
    Sync<HardEvent::S_MTE3>(pipe_);
    for (int32_t i = 0; i < 2; ++i) {
      StoreRows(scalar_[3 + i][unit], leaving[i * 8], 1, 1, 1);
    }
  }

  // dfc_reduce = sum over images of dhidden * pooled.
  __aicore__ inline void Reduce(int32_t unit, const LocalTensor<float>& dhidden) {
    LocalTensor<float> sum = dweights_out_.AllocTensor<float>();
    Duplicate(sum, 0.0f, t_.channels);
    PipeBarrier<PIPE_V>();
    for (int32_t image = 0; image < t_.n; ++image) {
      LocalTensor<float> loading = in_.AllocTensor<float>();
      LoadRows(loading, pooled_[static_cast<int64_t>(image) * t_.channels], 1, t_.channels, t_.channels);
      in_.EnQue(loading);
      LocalTensor<float> pooled = in_.DeQue<float>();
      Axpy(sum, pooled, dhidden.GetValue(image), t_.channels);
      PipeBarrier<PIPE_V>();
      in_.FreeTensor(pooled);
    }
    dweights_out_.EnQue(sum);
    LocalTensor<float> done = dweights_out_.DeQue<float>();
    StoreRows(dfc_reduce_[static_cast<int64_t>(unit) * t_.channels], done, 1, t_.channels, t_.channels);
    dweights_out_.FreeTensor(done);
    Sync<HardEvent::S_V>(pipe_);
  }

  AttentionTiling t_;
  int32_t all_, lanes_;  // branches * channels; images, rounded up to whole vector steps
  TPipe pipe_;
  TQue<TPosition::VECIN, 2> in_;
  TQue<TPosition::VECIN, 1> attention_in_, weights_in_;
  TQue<TPosition::VECOUT, 1> dweights_out_, dhidden_out_;
  TBuf<TPosition::VECIN> images_in_, scalars_in_;
  TBuf<TPosition::VECOUT> scalars_out_;
  TBuf<TPosition::VECCALC> dlogits_, product_, dactivated_, normalised_, zeros_, mask_, room_, few_;
  GlobalTensor<float> attention_, parts_, pooled_, hidden_, activated_, fc_select_, dhidden_, dfc_reduce_, dfc_select_,
      scalar_[5];
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_attention_grad(GM_ADDR attention, GM_ADDR dattention_parts, GM_ADDR pooled,
                                                        GM_ADDR hidden, GM_ADDR activated, GM_ADDR mean,
                                                        GM_ADDR inv_std, GM_ADDR gamma, GM_ADDR fc_select,
                                                        GM_ADDR dhidden, GM_ADDR dfc_reduce, GM_ADDR dgamma,
                                                        GM_ADDR dbeta, GM_ADDR dfc_select, GM_ADDR workspace,
                                                        GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::AttentionTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::AttentionGrad kernel(tiling_data, attention, dattention_parts, pooled, hidden, activated, mean,
                                          inv_std, gamma, fc_select, dhidden, dfc_reduce, dgamma, dbeta, dfc_select);
  kernel.Process();
}
