// SPDX-License-Identifier: Apache-2.0
// The selecting half of the attention: logits and their softmax over the branches. A task is 16 to 64 channels of all
// branches, and a share of the images.
//   activated (reduced, n), fc_select (reduced, branches * channels)  ->  attention (n, branches, channels)
#include "sk_common.h"

namespace sknet_ops::ascend {

class AttentionSelect {
 public:
  __aicore__ inline AttentionSelect(const AttentionTiling& tiling, GM_ADDR activated, GM_ADDR fc_select,
                                    GM_ADDR attention)
      : t_(tiling) {
    activated_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(activated));
    fc_select_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(fc_select));
    attention_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(attention));
    pipe_.InitBuffer(weights_, t_.reduced_step * t_.branches * t_.width * sizeof(float));
    pipe_.InitBuffer(values_, t_.reduced_step * 32);
    pipe_.InitBuffer(out_, 2, t_.branches * t_.width * sizeof(float));
    pipe_.InitBuffer(most_, t_.width * sizeof(float));
  }

  __aicore__ inline void Process() {
    const int32_t blocks = t_.channels / t_.width;
    for (int32_t task = GetBlockIdx(); task < blocks * t_.image_tasks; task += GetBlockNum()) {
      const int32_t share = task / blocks, channel = task % blocks * t_.width;
      const int32_t last = static_cast<int64_t>(t_.n) * (share + 1) / t_.image_tasks;
      bool fresh = true;
      for (int32_t image = static_cast<int64_t>(t_.n) * share / t_.image_tasks; image < last; ++image) {
        Image(image, channel, fresh);
        fresh = false;
      }
    }
  }

 private:
  // `fresh`: other channels than those of the call before.
  __aicore__ inline void Image(int32_t image, int32_t channel, bool fresh) {
    const int32_t width = t_.width, all = t_.branches * width;
    LocalTensor<float> logits = out_.AllocTensor<float>(), values = values_.Get<float>(),
                       weights = weights_.Get<float>();
    Duplicate(logits, 0.0f, all);
    PipeBarrier<PIPE_V>();
    for (int32_t first = 0; first < t_.reduced; first += t_.reduced_step) {
      const int32_t units = Min(t_.reduced_step, t_.reduced - first);
      Sync<HardEvent::V_MTE2>(pipe_);
      Sync<HardEvent::S_MTE2>(pipe_);
      LoadRows(values, activated_[static_cast<int64_t>(first) * t_.n + image], units, 1, t_.n);
      if (fresh || t_.reduced_step < t_.reduced) {
        for (int32_t branch = 0; branch < t_.branches; ++branch) {
          LoadRows(weights[branch * t_.reduced_step * width],
                   fc_select_[(static_cast<int64_t>(first) * t_.branches + branch) * t_.channels + channel], units,
                   width, t_.branches * t_.channels);
        }
      }
      Sync<HardEvent::MTE2_S>(pipe_);
      Sync<HardEvent::MTE2_V>(pipe_);
      for (int32_t i = 0; i < units; ++i) {
        const float value = values.GetValue(i * 8);
        for (int32_t branch = 0; branch < t_.branches; ++branch) {
          Axpy(logits[branch * width], weights[(branch * t_.reduced_step + i) * width], value, width);
        }
        PipeBarrier<PIPE_V>();
      }
    }
    Softmax(logits);
    out_.EnQue(logits);
    LocalTensor<float> done = out_.DeQue<float>();
    StoreRows(attention_[static_cast<int64_t>(image) * t_.branches * t_.channels + channel], done, t_.branches, width,
              t_.channels);
    out_.FreeTensor(done);
  }

  __aicore__ inline void Softmax(const LocalTensor<float>& logits) {
    const int32_t width = t_.width;
    LocalTensor<float> most = most_.Get<float>();
    Muls(most, logits, 1.0f, width);
    PipeBarrier<PIPE_V>();
    for (int32_t branch = 1; branch < t_.branches; ++branch) {
      Max(most, most, logits[branch * width], width);
      PipeBarrier<PIPE_V>();
    }
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      Sub(logits[branch * width], logits[branch * width], most, width);
    }
    PipeBarrier<PIPE_V>();
    Exp(logits, logits, t_.branches * width);
    Duplicate(most, 0.0f, width);
    PipeBarrier<PIPE_V>();
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      Add(most, most, logits[branch * width], width);
      PipeBarrier<PIPE_V>();
    }
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      Div(logits[branch * width], logits[branch * width], most, width);
    }
    PipeBarrier<PIPE_V>();
  }

  AttentionTiling t_;
  TPipe pipe_;
  TQue<TPosition::VECOUT, 2> out_;
  TBuf<TPosition::VECIN> weights_, values_;
  TBuf<TPosition::VECCALC> most_;
  GlobalTensor<float> activated_, fc_select_, attention_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_attention_select(GM_ADDR activated, GM_ADDR fc_select, GM_ADDR attention,
                                                          GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::AttentionTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::AttentionSelect kernel(tiling_data, activated, fc_select, attention);
  kernel.Process();
}
