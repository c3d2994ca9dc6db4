// SPDX-License-Identifier: Apache-2.0
// What both halves of the normalisation's gradient do with a tile: the gradient behind the activation, and z
// normalised.
#pragma once

#include "sk_common.h"

namespace sknet_ops::ascend {

template <typename T>
class NormGradTile {
 public:
  __aicore__ inline NormGradTile(const RowsTiling& tiling, TPipe& pipe, GM_ADDR du, GM_ADDR z, GM_ADDR mean,
                                 GM_ADDR inv_std, GM_ADDR gamma, GM_ADDR beta)
      : t_(tiling) {
    du_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(du));
    z_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(z));
    GM_ADDR const vectors[] = {mean, inv_std, gamma, beta};
    for (int32_t i = 0; i < 4; ++i) {
      vector_[i].SetGlobalBuffer(reinterpret_cast<__gm__ float*>(vectors[i]));
    }
    const uint32_t tile = t_.rows * t_.width;
    pipe.InitBuffer(du_in_, 2, tile * sizeof(T));
    pipe.InitBuffer(z_in_, 2, tile * sizeof(T));
    pipe.InitBuffer(wide_, kConverts<T> ? tile * sizeof(float) : 32);
    pipe.InitBuffer(normalised_, tile * sizeof(float));
    pipe.InitBuffer(value_, tile * sizeof(float));
    pipe.InitBuffer(gradient_, tile * sizeof(float));
    pipe.InitBuffer(zeros_, tile * sizeof(float));
    pipe.InitBuffer(mask_, CeilDiv(tile / 8, 32) * 32);
    pipe.InitBuffer(vectors_in_, 1, 4 * t_.width * sizeof(float));
    pipe.InitBuffer(scale_, t_.width * sizeof(float));
    // Comparisons go on to a multiple of 64 lanes: what lies beyond the last row is compared and not used.
    Duplicate(zeros_.Get<float>(), 0.0f, tile);
    Duplicate(value_.Get<float>(), 0.0f, tile);
    PipeBarrier<PIPE_V>();
  }

  // The branch's vectors for these channels; Close() before the next ones.
  __aicore__ inline void Open(int32_t branch, int32_t channel) {
    LocalTensor<float> loading = vectors_in_.AllocTensor<float>();
    for (int32_t i = 0; i < 4; ++i) {
      LoadRows(loading[i * t_.width], vector_[i][static_cast<int64_t>(branch) * t_.channels + channel], 1, t_.width,
               t_.width);
    }
    vectors_in_.EnQue(loading);
    vectors_ = vectors_in_.DeQue<float>();
    Mul(scale_.Get<float>(), InvStds(), Gammas(), t_.width);
    PipeBarrier<PIPE_V>();
  }
  __aicore__ inline void Close() { vectors_in_.FreeTensor(vectors_); }

  // Elements of `rows` rows from element `at` on: then Gradient() and Normalised() hold them.
  __aicore__ inline void Load(int64_t at, int32_t rows) {
    const int32_t width = t_.width, n = rows * width;
    LocalTensor<T> loading = z_in_.template AllocTensor<T>();
    LoadRows(loading, z_[at], rows, width, t_.channels);
    z_in_.EnQue(loading);
    loading = du_in_.template AllocTensor<T>();
    LoadRows(loading, du_[at], rows, width, t_.channels);
    du_in_.EnQue(loading);

    LocalTensor<float> wide = wide_.Get<float>(), value = value_.Get<float>(), normalised = Normalised();
    LocalTensor<T> z_tile = z_in_.template DeQue<T>();
    const LocalTensor<float> z = AsFloat(z_tile, wide, n);
    Sub(normalised, z, vectors_, width, rows, EachRow(width));
    PipeBarrier<PIPE_V>();
    z_in_.FreeTensor(z_tile);
    if (t_.relu) {  // as the forward kernel computes it, rounding for rounding
      Mul(value, normalised, scale_.Get<float>(), width, rows, EachRow(width));
      PipeBarrier<PIPE_V>();
      Add(value, value, Betas(), width, rows, EachRow(width));
      PipeBarrier<PIPE_V>();
    }
    Mul(normalised, normalised, InvStds(), width, rows, EachRow(width));
    LocalTensor<T> du_tile = du_in_.template DeQue<T>();
    const LocalTensor<float> du = AsFloat(du_tile, wide, n);
    if (t_.relu) {
      LocalTensor<uint8_t> closed = mask_.Get<uint8_t>();
      const uint32_t lanes = CeilDiv(n, kLanes) * kLanes;
      Compare(closed, value, zeros_.Get<float>(), CMPMODE::LE, lanes);
      PipeBarrier<PIPE_V>();
      Select(Gradient(), closed, zeros_.Get<float>(), du, SELMODE::VSEL_TENSOR_TENSOR_MODE, n);
    } else {
      Muls(Gradient(), du, 1.0f, n);
    }
    PipeBarrier<PIPE_V>();
    du_in_.FreeTensor(du_tile);
  }

  __aicore__ inline LocalTensor<float> Gradient() { return gradient_.Get<float>(); }
  __aicore__ inline LocalTensor<float> Normalised() { return normalised_.Get<float>(); }
  __aicore__ inline LocalTensor<float> Scale() { return scale_.Get<float>(); }

 private:
  __aicore__ inline LocalTensor<float> InvStds() { return vectors_[t_.width]; }
  __aicore__ inline LocalTensor<float> Gammas() { return vectors_[2 * t_.width]; }
  __aicore__ inline LocalTensor<float> Betas() { return vectors_[3 * t_.width]; }

  RowsTiling t_;
  LocalTensor<float> vectors_;  // mean, inv_std, gamma, beta
  TQue<TPosition::VECIN, 2> du_in_, z_in_;
  TQue<TPosition::VECIN, 1> vectors_in_;
  TBuf<TPosition::VECCALC> wide_, normalised_, value_, gradient_, zeros_, mask_, scale_;
  GlobalTensor<T> du_, z_;
  GlobalTensor<float> vector_[4];
};

}  // namespace sknet_ops::ascend
