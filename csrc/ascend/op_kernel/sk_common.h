// SPDX-License-Identifier: Apache-2.0
// What the kernels of the vector cores share. Everything is computed in float, whatever the maps are stored in.
#pragma once

#include "kernel_operator.h"
#include "sk_tiling_data.h"

namespace sknet_ops::ascend {

using namespace AscendC;

inline constexpr uint32_t kLanes = 64;  // floats of one vector step
template <typename T>
inline constexpr bool kConverts = sizeof(T) == 2;  // maps need room for their floats

__aicore__ inline int32_t Min(int32_t a, int32_t b) { return a < b ? a : b; }
__aicore__ inline int32_t CeilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }

// Makes the second pipe of the event wait for the first.
template <HardEvent event>
__aicore__ inline void Sync(TPipe& pipe) {
  const auto id = static_cast<event_t>(pipe.FetchEventID(event));
  SetFlag<event>(id);
  WaitFlag<event>(id);
}

// `rows` rows of `width` elements: `pitch` elements apart in global memory, a whole number of 32 bytes each in UB.
template <typename T>
__aicore__ inline void LoadRows(const LocalTensor<T>& dst, const GlobalTensor<T>& src, uint32_t rows, uint32_t width,
                                uint32_t pitch) {
  DataCopyExtParams copy;
  copy.blockCount = static_cast<uint16_t>(rows);
  copy.blockLen = width * sizeof(T);
  copy.srcStride = (pitch - width) * sizeof(T);
  copy.dstStride = 0;
  DataCopyPadExtParams<T> pad;
  pad.isPad = false;
  pad.leftPadding = 0;
  pad.rightPadding = 0;
  DataCopyPad(dst, src, copy, pad);
}
template <typename T>
__aicore__ inline void StoreRows(const GlobalTensor<T>& dst, const LocalTensor<T>& src, uint32_t rows, uint32_t width,
                                 uint32_t pitch) {
  DataCopyExtParams copy;
  copy.blockCount = static_cast<uint16_t>(rows);
  copy.blockLen = width * sizeof(T);
  copy.srcStride = 0;
  copy.dstStride = (pitch - width) * sizeof(T);
  DataCopyPad(dst, src, copy);
}

// The floats of `in`: itself, or converted into `room`.
__aicore__ inline LocalTensor<float> AsFloat(const LocalTensor<float>& in, const LocalTensor<float>&, uint32_t) {
  return in;
}
__aicore__ inline LocalTensor<float> AsFloat(const LocalTensor<half>& in, const LocalTensor<float>& room,
                                             uint32_t count) {
  Cast(room, in, RoundMode::CAST_NONE, count);
  PipeBarrier<PIPE_V>();
  return room;
}
__aicore__ inline void FromFloat(const LocalTensor<float>& out, const LocalTensor<float>& in, uint32_t count) {
  Muls(out, in, 1.0f, count);
}
__aicore__ inline void FromFloat(const LocalTensor<half>& out, const LocalTensor<float>& in, uint32_t count) {
  Cast(out, in, RoundMode::CAST_RINT, count);
}

// For an instruction of one row a repeat whose second source is the same row each time.
__aicore__ inline BinaryRepeatParams EachRow(uint32_t width) {
  BinaryRepeatParams params;
  params.dstBlkStride = 1;
  params.src0BlkStride = 1;
  params.src1BlkStride = 1;
  params.dstRepStride = static_cast<uint8_t>(width / 8);
  params.src0RepStride = static_cast<uint8_t>(width / 8);
  params.src1RepStride = 0;
  return params;
}

// Adds up all rows into the first one.
__aicore__ inline void SumRows(const LocalTensor<float>& buffer, uint32_t rows, uint32_t width) {
  while (rows > 1) {
    const uint32_t fold = rows / 2;
    Add(buffer, buffer, buffer[(rows - fold) * width], static_cast<int32_t>(fold * width));
    PipeBarrier<PIPE_V>();
    rows -= fold;
  }
}

// dst[0] = sum of src[0..count), count at most 64 * 64; `room` holds 64 floats.
__aicore__ inline void SumLanes(const LocalTensor<float>& dst, const LocalTensor<float>& src,
                                const LocalTensor<float>& room, uint32_t count) {
  const uint32_t full = count / kLanes, tail = count % kLanes;
  if (full > 0) {
    WholeReduceSum(room, src, kLanes, full, 1, 1, 8);
  }
  if (tail > 0) {
    WholeReduceSum(room[full], src[full * kLanes], tail, 1, 1, 1, 8);
  }
  PipeBarrier<PIPE_V>();
  WholeReduceSum(dst, room, full + (tail > 0), 1, 1, 1, 8);
  PipeBarrier<PIPE_V>();
}

// Merges mean and sum of squared deviations of `more` rows into those of `count` rows.
__aicore__ inline void MergeStatistics(const LocalTensor<float>& mean, const LocalTensor<float>& squares, float count,
                                       const LocalTensor<float>& more_mean, const LocalTensor<float>& more_squares,
                                       float more, const LocalTensor<float>& room, uint32_t width) {
  const int32_t n = static_cast<int32_t>(width);
  Sub(room, more_mean, mean, n);
  Add(squares, squares, more_squares, n);
  PipeBarrier<PIPE_V>();
  Axpy(mean, room, more / (count + more), n);
  PipeBarrier<PIPE_V>();
  Mul(room, room, room, n);
  PipeBarrier<PIPE_V>();
  Axpy(squares, room, count * more / (count + more), n);
  PipeBarrier<PIPE_V>();
}

// inv_std = 1 / sqrt(variance + eps), in place.
__aicore__ inline void InvStd(const LocalTensor<float>& variance, float eps, const LocalTensor<float>& room,
                              uint32_t width) {
  const int32_t n = static_cast<int32_t>(width);
  Adds(variance, variance, eps, n);
  Duplicate(room, 1.0f, n);
  PipeBarrier<PIPE_V>();
  Sqrt(variance, variance, n);
  PipeBarrier<PIPE_V>();
  Div(variance, room, variance, n);
  PipeBarrier<PIPE_V>();
}

// How the statistics of a branch are shared out: units are tiles of at most `rows` rows of one image.
struct StatisticsShare {
  int32_t tiles, first, last;  // tiles of an image; units [first, last)

  __aicore__ inline StatisticsShare(const RowsTiling& t, int32_t split, int32_t splits) {
    tiles = CeilDiv(t.positions, t.rows);
    const int64_t units = static_cast<int64_t>(t.n) * tiles;
    first = static_cast<int32_t>(units * split / splits);
    last = static_cast<int32_t>(units * (split + 1) / splits);
  }
  __aicore__ inline int32_t Rows(const RowsTiling& t, int32_t unit) const {
    return Min(t.rows, t.positions - unit % tiles * t.rows);
  }
  __aicore__ inline float Count(const RowsTiling& t) const {
    int32_t count = 0;
    for (int32_t unit = first; unit < last; ++unit) {
      count += Rows(t, unit);
    }
    return static_cast<float>(count);
  }
};

}  // namespace sknet_ops::ascend
