// SPDX-License-Identifier: Apache-2.0
// Part of kernel_operator.h, inside namespace AscendC: copies between global memory and UB or L1.

struct DataCopyExtParams {
  int64_t blockCount = 1, blockLen = 0, srcStride = 0, dstStride = 0, rsv = 0;
};
template <typename T>
struct DataCopyPadExtParams {
  bool isPad = false;
  uint8_t leftPadding = 0, rightPadding = 0;
  T paddingValue = 0;
};

namespace detail {
inline void check_blocks(const char* call, const DataCopyExtParams& p, size_t size) {
  in_range(call, "blockCount", p.blockCount, 0, 4095);
  in_range(call, "blockLen", p.blockLen, 0, 2097151);
  in_range(call, "srcStride", p.srcStride, 0, 4294967295);
  in_range(call, "dstStride", p.dstStride, 0, 4294967295);
  if (p.blockLen % static_cast<int64_t>(size) != 0) {
    fault("%s: blockLen %lld bytes is no multiple of the element's %zu", call, static_cast<long long>(p.blockLen),
          size);
  }
}
inline int64_t up_to_block(int64_t bytes) { return (bytes + 31) / 32 * 32; }
}  // namespace detail

// Global memory to UB: blocks of any length, gaps in bytes; in UB each block starts at a multiple of 32 bytes, gaps in
// 32 bytes, and what fills up the last 32 bytes repeats the block's first element.
template <typename T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyExtParams& p,
                 const DataCopyPadExtParams<T>& pad) {
  const char* call = "DataCopyPad";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kVector, call);
  detail::check_blocks(call, p, sizeof(T));
  detail::aligned(call, "dst", dst.address(), 32);
  if (dst.position() != TPosition::VECIN && dst.position() != TPosition::VECOUT) {
    fault("%s: dst is neither in VECIN nor in VECOUT", call);
  }
  if (pad.isPad || pad.leftPadding || pad.rightPadding) {
    fault("%s: padding values are not implemented", call);
  }
  const int64_t from = p.blockLen + p.srcStride;
  const int64_t to = detail::up_to_block(p.blockLen) + p.dstStride * 32;
  std::vector<emu::Access> accesses;
  for (int64_t i = 0; i < p.blockCount && p.blockLen; ++i) {
    accesses.push_back(src.access(i * from, p.blockLen, false));
    accesses.push_back(dst.access(call, "dst", i * to, detail::up_to_block(p.blockLen), true));
  }
  machine.counters().gm_to_ub += p.blockCount * p.blockLen;
  machine.issue(emu::kMte2, call, std::move(accesses), [=] {
    for (int64_t i = 0; i < p.blockCount && p.blockLen; ++i) {
      auto* out = reinterpret_cast<uint8_t*>(dst.data()) + i * to;
      const auto* in = reinterpret_cast<const uint8_t*>(src.data()) + i * from;
      std::memcpy(out, in, p.blockLen);
      for (int64_t b = p.blockLen; b < detail::up_to_block(p.blockLen); b += sizeof(T)) {
        std::memcpy(out + b, in, sizeof(T));
      }
    }
  });
}

// UB to global memory.
template <typename T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyExtParams& p) {
  const char* call = "DataCopyPad";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kVector, call);
  detail::check_blocks(call, p, sizeof(T));
  detail::aligned(call, "src", src.address(), 32);
  if (src.position() != TPosition::VECIN && src.position() != TPosition::VECOUT) {
    fault("%s: src is neither in VECIN nor in VECOUT", call);
  }
  const int64_t from = detail::up_to_block(p.blockLen) + p.srcStride * 32;
  const int64_t to = p.blockLen + p.dstStride;
  std::vector<emu::Access> accesses;
  for (int64_t i = 0; i < p.blockCount && p.blockLen; ++i) {
    accesses.push_back(src.access(call, "src", i * from, p.blockLen, false));
    accesses.push_back(dst.access(i * to, p.blockLen, true));
  }
  machine.counters().ub_to_gm += p.blockCount * p.blockLen;
  machine.issue(emu::kMte3, call, std::move(accesses), [=] {
    for (int64_t i = 0; i < p.blockCount; ++i) {
      std::memcpy(reinterpret_cast<uint8_t*>(dst.data()) + i * to,
                  reinterpret_cast<const uint8_t*>(src.data()) + i * from, p.blockLen);
    }
  });
}

namespace detail {
inline void check_whole_blocks(const char* call, uint32_t local, int64_t bytes) {
  aligned(call, "the local tensor", local, 32);
  if (bytes % 32 != 0) {
    fault("%s: misaligned: %lld bytes, expected a multiple of 32 (DataCopyPad takes any length)", call,
          static_cast<long long>(bytes));
  }
}
}  // namespace detail

// Whole 32-byte blocks, contiguous.
template <typename T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, uint32_t count) {
  const char* call = "DataCopy";
  const int64_t bytes = int64_t{count} * sizeof(T);
  auto& machine = Machine::instance();
  machine.require(emu::Core::kVector, call);
  detail::check_whole_blocks(call, dst.address(), bytes);
  machine.counters().gm_to_ub += bytes;
  machine.issue(emu::kMte2, call, {src.access(0, bytes, false), dst.access(call, "dst", 0, bytes, true)},
                [=] { std::memcpy(dst.data(), src.data(), bytes); });
}
template <typename T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, uint32_t count) {
  const char* call = "DataCopy";
  const int64_t bytes = int64_t{count} * sizeof(T);
  auto& machine = Machine::instance();
  machine.require(emu::Core::kVector, call);
  detail::check_whole_blocks(call, src.address(), bytes);
  machine.counters().ub_to_gm += bytes;
  machine.issue(emu::kMte3, call, {src.access(call, "src", 0, bytes, false), dst.access(0, bytes, true)},
                [=] { std::memcpy(dst.data(), src.data(), bytes); });
}

struct Nd2NzParams {
  int64_t ndNum = 0, nValue = 0, dValue = 0, srcNdMatrixStride = 0, srcDValue = 0, dstNzC0Stride = 0, dstNzNStride = 0,
          dstNzMatrixStride = 0;
};

// ndNum matrices of nValue rows and dValue columns to L1, where a column block of 32 bytes comes before the next one.
template <typename T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const Nd2NzParams& p) {
  const char* call = "DataCopy(Nd2Nz)";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kCube, call);
  detail::in_range(call, "ndNum", p.ndNum, 0, 4095);
  detail::in_range(call, "nValue", p.nValue, 0, 16384);
  detail::in_range(call, "dValue", p.dValue, 0, 65535);
  detail::in_range(call, "srcNdMatrixStride", p.srcNdMatrixStride, 0, 65535);
  detail::in_range(call, "srcDValue", p.srcDValue, 1, 65535);
  detail::in_range(call, "dstNzC0Stride", p.dstNzC0Stride, 1, 16384);
  detail::in_range(call, "dstNzNStride", p.dstNzNStride, 1, 16384);
  detail::in_range(call, "dstNzMatrixStride", p.dstNzMatrixStride, 0, 65535);
  detail::aligned(call, "dst", dst.address(), 32);
  if (dst.space() != emu::kL1) {
    fault("%s: dst is in %s, expected L1", call, emu::name(dst.space()));
  }
  constexpr int64_t kC0 = 32 / sizeof(T);
  const auto out = [=](int64_t m, int64_t n, int64_t d) {  // in elements; d a multiple of kC0
    return m * p.dstNzMatrixStride + d / kC0 * p.dstNzC0Stride * kC0 + n * p.dstNzNStride * kC0;
  };
  const auto in = [=](int64_t m, int64_t n) { return m * p.srcNdMatrixStride + n * p.srcDValue; };
  std::vector<emu::Access> accesses;
  for (int64_t m = 0; m < p.ndNum; ++m) {
    for (int64_t n = 0; n < p.nValue && p.dValue; ++n) {
      accesses.push_back(src.access(in(m, n) * sizeof(T), p.dValue * sizeof(T), false));
    }
    for (int64_t d = 0; d < p.dValue && p.nValue; d += kC0) {
      if (p.dstNzNStride == 1) {
        accesses.push_back(dst.access(call, "dst", out(m, 0, d) * sizeof(T), p.nValue * 32, true));
        continue;
      }
      for (int64_t n = 0; n < p.nValue; ++n) {
        accesses.push_back(dst.access(call, "dst", out(m, n, d) * sizeof(T), 32, true));
      }
    }
  }
  machine.counters().gm_to_l1 += p.ndNum * p.nValue * p.dValue * static_cast<int64_t>(sizeof(T));
  machine.issue(emu::kMte2, call, std::move(accesses), [=] {
    for (int64_t m = 0; m < p.ndNum; ++m) {
      for (int64_t n = 0; n < p.nValue; ++n) {
        for (int64_t d = 0; d < p.dValue; d += kC0) {
          for (int64_t i = 0; i < kC0; ++i) {
            dst.data()[out(m, n, d) + i] = d + i < p.dValue ? src.data()[in(m, n) + d + i] : T(0);
          }
        }
      }
    }
  });
}
