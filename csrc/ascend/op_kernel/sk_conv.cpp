// SPDX-License-Identifier: Apache-2.0
// Every branch's grouped, dilated, strided convolution, on the cube cores; and, on flipped weights, the data gradient.
//   x (..., h, w, channels), packed weights (branch, c_out, taps, kin)  ->  y (..., h, w, channels)
//
// A task is up to m_tile output positions of one image and n_tile output channels of one block of groups. Rows of x
// that it needs go to L1 as (channels / C0, row, column, C0), once for all branches where they share x; a branch's
// taps are unfolded from there straight into L0A, a few taps of C0 channels at a time; L0C holds the sums of all
// branches, or of all into one where their outputs add up. The data gradient of a strided convolution reads dz spread
// out to every `up`-th row and column of zeros.
#include "kernel_operator.h"
#include "sk_tiling_data.h"

namespace sknet_ops::ascend {

using namespace AscendC;

template <typename T>
class Conv {
 public:
  __aicore__ inline Conv(const ConvTiling& tiling, GM_ADDR x, GM_ADDR weight, GM_ADDR y) : t_(tiling) {
    x_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(x));
    weight_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(weight));
    y_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(y));
    pipe_.InitBuffer(l1_x_, 2, t_.l1_x);
    pipe_.InitBuffer(l1_w_, 2, t_.l1_w);
    pipe_.InitBuffer(l0a_, 2, t_.l0a);
    pipe_.InitBuffer(l0b_, 2, t_.l0b);
    pipe_.InitBuffer(l0c_, t_.l0c_buffers, t_.l0c);
    spread_h_ = (t_.in_h - 1) * t_.up + 1;
    spread_w_ = (t_.in_w - 1) * t_.up + 1;
  }

  __aicore__ inline void Process() {
    const int32_t tasks = t_.n * t_.m_tiles * t_.blocks * t_.n_tiles;
    for (int32_t task = GetBlockIdx(); task < tasks; task += GetBlockNum()) {
      const int32_t columns = task % (t_.blocks * t_.n_tiles), rows = task / (t_.blocks * t_.n_tiles);
      Task(rows / t_.m_tiles, rows % t_.m_tiles * t_.m_tile, columns / t_.n_tiles, columns % t_.n_tiles * t_.n_tile);
    }
  }

 private:
  static constexpr int32_t kC0 = 32 / sizeof(T);

  // Rows [low, high] of the map that output rows [first_, last_] of a branch reach, and where they would begin and end
  // without the edges.
  struct Reach {
    int32_t low, high, begin, end;
  };
  __aicore__ inline Reach ReachOf(int32_t branch) const {
    const int32_t begin = first_ * t_.stride - t_.pad[branch];
    const int32_t end = last_ * t_.stride - t_.pad[branch] + t_.dilation[branch] * (t_.kernel[branch] - 1);
    return {begin > 0 ? begin : 0, end < spread_h_ ? end : spread_h_ - 1, begin, end};
  }

  __aicore__ inline void Task(int32_t image, int32_t position, int32_t block, int32_t column) {
    position_ = position;
    count_ = t_.m_tile;
    if (position + count_ > t_.out_h * t_.out_w) {
      count_ = t_.out_h * t_.out_w - position;
    }
    first_ = position / t_.out_w;
    last_ = (position + count_ - 1) / t_.out_w;
    // One row would make the matrix unit read A as a plain vector: compute a second one and drop it.
    m_ = count_ > 1 ? count_ : 2;

    LocalTensor<float> sums = l0c_.template AllocTensor<float>();
    bool fresh[kTilingBranches] = {true, true, true, true};
    for (int32_t chunk = 0; chunk < t_.k_chunks; ++chunk) {
      const int32_t channel = block * t_.kin + chunk * t_.k_chunk;
      LocalTensor<T> map;
      int32_t low = 0, rows = 0;
      for (int32_t branch = 0; branch < t_.branches; ++branch) {
        if (branch == 0 || !t_.shared_input) {
          if (branch > 0) {
            l1_x_.FreeTensor(map);
          }
          Extent(branch, low, rows);
          LoadMap(image, branch, channel, low, rows);
          map = l1_x_.template DeQue<T>();
        }
        LoadWeights(branch, block, column, chunk);
        LocalTensor<T> weights = l1_w_.template DeQue<T>();
        const int32_t slot = t_.accumulate ? 0 : branch;
        Multiply(map, low, rows, weights, branch, sums[slot * Padded(t_.m_tile) * t_.n_tile], fresh[slot]);
        l1_w_.FreeTensor(weights);
      }
      l1_x_.FreeTensor(map);
    }
    l0c_.EnQue(sums);
    Store(image, block * t_.nout + column);
  }

  __aicore__ inline int32_t Padded(int32_t rows) const { return (rows + 15) / 16 * 16; }

  // Rows of the map to load: of all branches where they share it.
  __aicore__ inline void Extent(int32_t branch, int32_t& low, int32_t& rows) const {
    Reach reach = ReachOf(branch);
    for (int32_t other = 1; t_.shared_input && other < t_.branches; ++other) {
      const Reach more = ReachOf(other);
      reach.low = more.low < reach.low ? more.low : reach.low;
      reach.high = more.high > reach.high ? more.high : reach.high;
    }
    low = reach.low;
    rows = reach.high - reach.low + 1;
  }

  __aicore__ inline void LoadMap(int32_t image, int32_t branch, int32_t channel, int32_t low, int32_t rows) {
    LocalTensor<T> map = l1_x_.template AllocTensor<T>();
    const int64_t from = image * t_.x_image + branch * t_.x_branch + channel;
    Nd2NzParams copy;
    copy.ndNum = 1;
    copy.nValue = static_cast<uint16_t>(t_.in_w);
    copy.dValue = static_cast<uint16_t>(t_.k_chunk);
    copy.srcNdMatrixStride = 0;
    copy.srcDValue = static_cast<uint16_t>(t_.x_pixel);
    copy.dstNzC0Stride = static_cast<uint16_t>(rows * spread_w_);
    copy.dstNzNStride = static_cast<uint16_t>(t_.up);
    copy.dstNzMatrixStride = 0;
    if (t_.up == 1) {
      copy.nValue = static_cast<uint16_t>(rows * t_.in_w);
      DataCopy(map, x_[from + static_cast<int64_t>(low) * t_.in_w * t_.x_pixel], copy);
    } else {
      InitConstValueParams<T> zero;
      zero.repeatTimes = 1;
      zero.blockNum = static_cast<uint16_t>(rows * spread_w_ * (t_.k_chunk / kC0));
      zero.dstGap = 0;
      zero.initValue = 0;
      InitConstValue(map, zero);
      PipeBarrier<PIPE_MTE2>();
      for (int32_t row = (low + t_.up - 1) / t_.up; row * t_.up < low + rows; ++row) {
        DataCopy(map[(row * t_.up - low) * spread_w_ * kC0],
                 x_[from + static_cast<int64_t>(row) * t_.in_w * t_.x_pixel], copy);
      }
    }
    l1_x_.EnQue(map);
  }

  // To (tap, channels / C0, output channel, C0).
  __aicore__ inline void LoadWeights(int32_t branch, int32_t block, int32_t column, int32_t chunk) {
    const int32_t taps = t_.kernel[branch] * t_.kernel[branch];
    LocalTensor<T> weights = l1_w_.template AllocTensor<T>();
    Nd2NzParams copy;
    copy.ndNum = static_cast<uint16_t>(taps);
    copy.nValue = static_cast<uint16_t>(t_.n_tile);
    copy.dValue = static_cast<uint16_t>(t_.k_chunk);
    copy.srcNdMatrixStride = static_cast<uint16_t>(t_.kin);
    copy.srcDValue = static_cast<uint16_t>(taps * t_.kin);
    copy.dstNzC0Stride = static_cast<uint16_t>(t_.n_tile);
    copy.dstNzNStride = 1;
    copy.dstNzMatrixStride = static_cast<uint16_t>(t_.n_tile * t_.k_chunk);
    const int64_t row = static_cast<int64_t>(block) * t_.nout + column;
    DataCopy(weights, weight_[t_.w_branch[branch] + row * taps * t_.kin + chunk * t_.k_chunk], copy);
    l1_w_.EnQue(weights);
  }

  __aicore__ inline void Multiply(const LocalTensor<T>& map, int32_t low, int32_t rows, const LocalTensor<T>& weights,
                                  int32_t branch, const LocalTensor<float>& sum, bool& fresh) {
    const int32_t kernel = t_.kernel[branch], taps = kernel * kernel, blocks = t_.k_chunk / kC0;
    const int32_t fractals = t_.n_tile / 16;  // of one block of B
    const Reach reach = ReachOf(branch);
    LoadData3DParamsV2<T> unfold;
    const int32_t right =
        (t_.out_w - 1) * t_.stride + t_.dilation[branch] * (kernel - 1) + 1 - spread_w_ - t_.pad[branch];
    unfold.padList[0] = static_cast<uint8_t>(t_.pad[branch]);
    unfold.padList[1] = static_cast<uint8_t>(right > 0 ? right : 0);
    unfold.padList[2] = static_cast<uint8_t>(reach.low - reach.begin);
    unfold.padList[3] = static_cast<uint8_t>(reach.end - reach.high + (count_ > 1 ? 0 : t_.stride));
    unfold.l1H = static_cast<uint16_t>(reach.high - reach.low + 1);
    unfold.l1W = static_cast<uint16_t>(spread_w_);
    unfold.channelSize = kC0;
    unfold.mExtension = static_cast<uint16_t>(m_);
    unfold.mStartPt = static_cast<uint16_t>(position_ - first_ * t_.out_w);
    unfold.strideW = static_cast<uint8_t>(t_.stride);
    unfold.strideH = static_cast<uint8_t>(t_.stride);
    unfold.filterW = static_cast<uint8_t>(kernel);
    unfold.filterH = static_cast<uint8_t>(kernel);
    unfold.dilationFilterW = static_cast<uint8_t>(t_.dilation[branch]);
    unfold.dilationFilterH = static_cast<uint8_t>(t_.dilation[branch]);
    unfold.enTranspose = false;
    unfold.padValue = 0;
    unfold.fMatrixCtrl = false;

    for (int32_t block = 0; block < blocks; ++block) {
      for (int32_t tap = 0; tap < taps; tap += t_.taps_step) {
        const int32_t step = taps - tap < t_.taps_step ? taps - tap : t_.taps_step;
        LocalTensor<T> a = l0a_.template AllocTensor<T>();
        unfold.kStartPt = static_cast<uint16_t>(tap * kC0);
        unfold.kExtension = static_cast<uint16_t>(step * kC0);
        LoadData(a, map[(block * rows + reach.low - low) * spread_w_ * kC0], unfold);
        l0a_.EnQue(a);

        LocalTensor<T> b = l0b_.template AllocTensor<T>();
        LoadData2DParams pick;
        pick.startIndex = 0;
        pick.repeatTimes = static_cast<uint8_t>(step);
        pick.srcStride = static_cast<uint16_t>(blocks * fractals);
        pick.dstGap = static_cast<uint16_t>(fractals - 1);
        pick.ifTranspose = false;
        for (int32_t fractal = 0; fractal < fractals; ++fractal) {
          LoadData(b[fractal * 16 * kC0], weights[((tap * blocks + block) * t_.n_tile + fractal * 16) * kC0], pick);
        }
        l0b_.EnQue(b);

        a = l0a_.template DeQue<T>();
        b = l0b_.template DeQue<T>();
        MmadParams multiply;
        multiply.m = static_cast<uint16_t>(m_);
        multiply.n = static_cast<uint16_t>(t_.n_tile);
        multiply.k = static_cast<uint16_t>(step * kC0);
        multiply.cmatrixInitVal = fresh;
        Mmad(sum, a, b, multiply);
        PipeBarrier<PIPE_M>();
        fresh = false;
        l0a_.FreeTensor(a);
        l0b_.FreeTensor(b);
      }
    }
  }

  __aicore__ inline void Store(int32_t image, int32_t channel) {
    LocalTensor<float> sums = l0c_.template DeQue<float>();
    FixpipeParamsV220 out;
    out.nSize = static_cast<uint16_t>(t_.n_tile);
    out.mSize = static_cast<uint16_t>(count_);
    out.srcStride = static_cast<uint16_t>(Padded(m_));
    out.dstStride = static_cast<uint32_t>(t_.y_pixel);
    out.quantPre = sizeof(T) == 2 ? QuantMode_t::F322F16 : QuantMode_t::NoQuant;
    out.ndNum = 1;
    for (int32_t slot = 0; slot < (t_.accumulate ? 1 : t_.branches); ++slot) {
      const int64_t to =
          image * t_.y_image + slot * t_.y_branch + static_cast<int64_t>(position_) * t_.y_pixel + channel;
      Fixpipe<T, float, CFG_ROW_MAJOR>(y_[to], sums[slot * Padded(t_.m_tile) * t_.n_tile], out);
    }
    l0c_.FreeTensor(sums);
  }

  ConvTiling t_;
  int32_t spread_h_, spread_w_;
  int32_t position_, count_, m_, first_, last_;  // of the task: its output positions, and their rows
  TPipe pipe_;
  TQue<TPosition::A1, 2> l1_x_;
  TQue<TPosition::B1, 2> l1_w_;
  TQue<TPosition::A2, 2> l0a_;
  TQue<TPosition::B2, 2> l0b_;
  TQue<TPosition::CO1, 2> l0c_;
  GlobalTensor<T> x_, weight_, y_;
};

}  // namespace sknet_ops::ascend

extern "C" __global__ __aicore__ void sk_conv(GM_ADDR x, GM_ADDR weight, GM_ADDR y, GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(sknet_ops::ascend::ConvTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY);
  GET_TILING_DATA(tiling_data, tiling);
  sknet_ops::ascend::Conv<DTYPE_X> kernel(tiling_data, x, weight, y);
  kernel.Process();
}
