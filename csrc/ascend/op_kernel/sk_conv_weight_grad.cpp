// SPDX-License-Identifier: Apache-2.0
// Gradient of every branch's weights, on the cube cores: dz^T times the unfolded x.
//   x (..., h, w, channels), dz (..., h, w, channels)
//   -> partial (branch, splits, c_out, kin / 16, taps * 16): sums over a share of images and positions, each block of
//      16 input channels in the order (channels / C0, tap, C0); sk_unpack_weight_grad adds and sorts them
//
// A task is a share of (image, position tile) units, a block of output channels and 16 input channels; its sums stay in
// L0C from the first unit to the last.
#include "kernel_operator.h"
#include "sk_tiling_data.h"

namespace sknet_ops::ascend {

using namespace AscendC;

template <typename T>
class ConvWeightGrad {
 public:
  __aicore__ inline ConvWeightGrad(const WeightGradTiling& tiling, GM_ADDR x, GM_ADDR dz, GM_ADDR partial)
      : t_(tiling) {
    x_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(x));
    dz_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(dz));
    partial_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(partial));
    pipe_.InitBuffer(l1_x_, 2, t_.l1_x);
    pipe_.InitBuffer(l1_z_, 2, t_.l1_z);
    pipe_.InitBuffer(l0a_, 2, t_.l0a);
    pipe_.InitBuffer(l0b_, 2, t_.l0b);
    pipe_.InitBuffer(l0c_, 1, t_.l0c);
  }

  __aicore__ inline void Process() {
    int32_t start = GetBlockIdx();
    for (int32_t branch = 0; branch < t_.branches; ++branch) {
      const int32_t tiles = t_.nout / t_.m_tile[branch], channels = t_.kin / 16;
      const int32_t tasks = t_.splits * t_.blocks * tiles * channels;
      int32_t task = start;
      for (; task < tasks; task += GetBlockNum()) {
        const int32_t rest = task / channels / tiles;
        Task(branch, rest / t_.blocks, rest % t_.blocks, task / channels % tiles * t_.m_tile[branch], task % channels);
      }
      start = task - tasks;  // blocks take turns over all branches together
    }
  }

 private:
  static constexpr int32_t kC0 = 32 / sizeof(T);

  __aicore__ inline void Task(int32_t branch, int32_t split, int32_t block, int32_t row, int32_t channels) {
    const int64_t units = static_cast<int64_t>(t_.n) * t_.k_tiles[branch];
    const int32_t first = static_cast<int32_t>(units * split / t_.splits);
    const int32_t last = static_cast<int32_t>(units * (split + 1) / t_.splits);
    const int32_t taps = t_.kernel[branch] * t_.kernel[branch], columns = taps * 16, m = t_.m_tile[branch];
    LocalTensor<float> sum = l0c_.template AllocTensor<float>();
    for (int32_t unit = first; unit < last; ++unit) {
      const int32_t image = unit / t_.k_tiles[branch], position = unit % t_.k_tiles[branch] * t_.k_tile[branch];
      int32_t count = t_.out_h * t_.out_w - position;
      count = count < t_.k_tile[branch] ? count : t_.k_tile[branch];
      LoadLeft(branch, image, position, count, block * t_.nout + row);
      LoadRight(branch, image, position, count, block * t_.kin + channels * 16);
      LocalTensor<T> a = l0a_.template DeQue<T>();
      LocalTensor<T> b = l0b_.template DeQue<T>();
      MmadParams multiply;
      multiply.m = static_cast<uint16_t>(m);
      multiply.n = static_cast<uint16_t>(columns);
      multiply.k = static_cast<uint16_t>(count);
      multiply.cmatrixInitVal = unit == first;
      multiply.kDirectionAlign = true;  // the transposing load fills 16 positions at a time
      Mmad(sum, a, b, multiply);
      PipeBarrier<PIPE_M>();
      l0a_.FreeTensor(a);
      l0b_.FreeTensor(b);
    }
    l0c_.EnQue(sum);

    LocalTensor<float> done = l0c_.template DeQue<float>();
    FixpipeParamsV220 out;
    out.nSize = static_cast<uint16_t>(columns);
    out.mSize = static_cast<uint16_t>(m);
    out.srcStride = static_cast<uint16_t>(m);
    out.dstStride = static_cast<uint32_t>(t_.kin * taps);
    out.quantPre = QuantMode_t::NoQuant;
    out.ndNum = 1;
    const int64_t to = t_.p_branch[branch] + split * t_.p_split[branch] +
                       static_cast<int64_t>(block * t_.nout + row) * t_.kin * taps + channels * columns;
    Fixpipe<float, float, CFG_ROW_MAJOR>(partial_[to], done, out);
    l0c_.FreeTensor(done);
  }

  // dz of `count` positions, (positions, m): transposed into L0A.
  __aicore__ inline void LoadLeft(int32_t branch, int32_t image, int32_t position, int32_t count, int32_t channel) {
    const int32_t m = t_.m_tile[branch];
    LocalTensor<T> loading = l1_z_.template AllocTensor<T>();
    Nd2NzParams copy;
    copy.ndNum = 1;
    copy.nValue = static_cast<uint16_t>(count);
    copy.dValue = static_cast<uint16_t>(m);
    copy.srcNdMatrixStride = 0;
    copy.srcDValue = static_cast<uint16_t>(t_.z_pixel);
    copy.dstNzC0Stride = static_cast<uint16_t>(count);
    copy.dstNzNStride = 1;
    copy.dstNzMatrixStride = 0;
    const int64_t from =
        image * t_.z_image + branch * t_.z_branch + static_cast<int64_t>(position) * t_.z_pixel + channel;
    DataCopy(loading, dz_[from], copy);
    l1_z_.EnQue(loading);

    LocalTensor<T> z = l1_z_.template DeQue<T>();
    LocalTensor<T> a = l0a_.template AllocTensor<T>();
    LoadData3DParamsV2<T> turn;  // a map of one row and a filter of one tap: the matrix itself
    turn.l1H = 1;
    turn.l1W = static_cast<uint16_t>(count);
    turn.channelSize = static_cast<uint16_t>(m);
    turn.kExtension = static_cast<uint16_t>(m);
    turn.mExtension = static_cast<uint16_t>(count);
    turn.kStartPt = 0;
    turn.mStartPt = 0;
    turn.enTranspose = true;
    turn.padValue = 0;
    LoadData(a, z, turn);
    l0a_.EnQue(a);
    l1_z_.FreeTensor(z);
  }

  // x unfolded at these positions, 16 channels with all taps: into L0B, where positions are the inner dimension.
  __aicore__ inline void LoadRight(int32_t branch, int32_t image, int32_t position, int32_t count, int32_t channel) {
    const int32_t kernel = t_.kernel[branch], dilation = t_.dilation[branch], pad = t_.pad[branch];
    const int32_t first = position / t_.out_w, last = (position + count - 1) / t_.out_w;
    const int32_t begin = first * t_.stride - pad, end = last * t_.stride - pad + dilation * (kernel - 1);
    const int32_t low = begin > 0 ? begin : 0, high = end < t_.in_h ? end : t_.in_h - 1, rows = high - low + 1;
    LocalTensor<T> loading = l1_x_.template AllocTensor<T>();
    Nd2NzParams copy;
    copy.ndNum = 1;
    copy.nValue = static_cast<uint16_t>(rows * t_.in_w);
    copy.dValue = 16;
    copy.srcNdMatrixStride = 0;
    copy.srcDValue = static_cast<uint16_t>(t_.x_pixel);
    copy.dstNzC0Stride = static_cast<uint16_t>(rows * t_.in_w);
    copy.dstNzNStride = 1;
    copy.dstNzMatrixStride = 0;
    const int64_t from =
        image * t_.x_image + branch * t_.x_branch + static_cast<int64_t>(low) * t_.in_w * t_.x_pixel + channel;
    DataCopy(loading, x_[from], copy);
    l1_x_.EnQue(loading);

    LocalTensor<T> map = l1_x_.template DeQue<T>();
    LocalTensor<T> b = l0b_.template AllocTensor<T>();
    LoadData3DParamsV2<T> unfold;
    const int32_t right = (t_.out_w - 1) * t_.stride + dilation * (kernel - 1) + 1 - t_.in_w - pad;
    unfold.padList[0] = static_cast<uint8_t>(pad);
    unfold.padList[1] = static_cast<uint8_t>(right > 0 ? right : 0);
    unfold.padList[2] = static_cast<uint8_t>(low - begin);
    unfold.padList[3] = static_cast<uint8_t>(end - high);
    unfold.l1H = static_cast<uint16_t>(rows);
    unfold.l1W = static_cast<uint16_t>(t_.in_w);
    unfold.channelSize = 16;
    unfold.kExtension = static_cast<uint16_t>(kernel * kernel * 16);
    unfold.mExtension = static_cast<uint16_t>(count);
    unfold.kStartPt = 0;
    unfold.mStartPt = static_cast<uint16_t>(position - first * t_.out_w);
    unfold.strideW = static_cast<uint8_t>(t_.stride);
    unfold.strideH = static_cast<uint8_t>(t_.stride);
    unfold.filterW = static_cast<uint8_t>(kernel);
    unfold.filterH = static_cast<uint8_t>(kernel);
    unfold.dilationFilterW = static_cast<uint8_t>(dilation);
    unfold.dilationFilterH = static_cast<uint8_t>(dilation);
    unfold.padValue = 0;
    LoadData(b, map, unfold);
    l0b_.EnQue(b);
    l1_x_.FreeTensor(map);
  }

  WeightGradTiling t_;
  TPipe pipe_;
  TQue<TPosition::B1, 2> l1_x_;
  TQue<TPosition::A1, 2> l1_z_;
  TQue<TPosition::A2, 2> l0a_;
  TQue<TPosition::B2, 2> l0b_;
  TQue<TPosition::CO1, 1> l0c_;
  GlobalTensor<T> x_, dz_;
  GlobalTensor<float> partial_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_conv_weight_grad(GM_ADDR x, GM_ADDR dz, GM_ADDR partial, GM_ADDR workspace,
                                                          GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::WeightGradTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::ConvWeightGrad<DTYPE_X> kernel(tiling_data, x, dz, partial);
  kernel.Process();
}
