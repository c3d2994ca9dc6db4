// SPDX-License-Identifier: Apache-2.0
// Part of kernel_operator.h, inside namespace AscendC: L1 to L0, the matrix unit, and the way out.

template <typename T>
struct InitConstValueParams {
  int64_t repeatTimes = 0, blockNum = 0, dstGap = 0;
  T initValue = 0;
};

// Fills L1: repeatTimes runs of blockNum 32-byte blocks, dstGap blocks apart.
template <typename T>
void InitConstValue(const LocalTensor<T>& dst, const InitConstValueParams<T>& p) {
  const char* call = "InitConstValue";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kCube, call);
  detail::in_range(call, "repeatTimes", p.repeatTimes, 0, 32767);
  detail::in_range(call, "blockNum", p.blockNum, 0, 32767);
  detail::in_range(call, "dstGap", p.dstGap, 0, 32767);
  detail::aligned(call, "dst", dst.address(), 32);
  if (dst.space() != emu::kL1) {
    fault("%s: filling %s is not implemented", call, emu::name(dst.space()));
  }
  std::vector<emu::Access> accesses;
  for (int64_t r = 0; r < p.repeatTimes && p.blockNum; ++r) {
    accesses.push_back(dst.access(call, "dst", r * (p.blockNum + p.dstGap) * 32, p.blockNum * 32, true));
  }
  machine.issue(emu::kMte2, call, std::move(accesses), [=] {
    constexpr int64_t kC0 = 32 / sizeof(T);
    for (int64_t r = 0; r < p.repeatTimes; ++r) {
      std::fill_n(dst.data() + r * (p.blockNum + p.dstGap) * kC0, p.blockNum * kC0, p.initValue);
    }
  });
}

struct LoadData2DParams {
  int64_t startIndex = 0, repeatTimes = 0, srcStride = 0, sid = 0, dstGap = 0;
  bool ifTranspose = false;
  int64_t addrMode = 0;
};

// Fractals of 512 bytes, one a repeat.
template <typename T>
void LoadData(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LoadData2DParams& p) {
  const char* call = "LoadData(2D)";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kCube, call);
  detail::in_range(call, "startIndex", p.startIndex, 0, 65535);
  detail::in_range(call, "repeatTimes", p.repeatTimes, 0, 255);
  detail::in_range(call, "srcStride", p.srcStride, 0, 65535);
  detail::in_range(call, "dstGap", p.dstGap, 0, 65535);
  detail::aligned(call, "src", src.address(), 32);
  detail::aligned(call, "dst", dst.address(), 512);
  if (src.space() != emu::kL1 || (dst.space() != emu::kL0a && dst.space() != emu::kL0b)) {
    fault("%s: from %s to %s, expected L1 to L0A or L0B", call, emu::name(src.space()), emu::name(dst.space()));
  }
  if (p.ifTranspose || p.addrMode) {
    fault("%s: ifTranspose and addrMode are not implemented", call);
  }
  std::vector<emu::Access> accesses;
  for (int64_t r = 0; r < p.repeatTimes; ++r) {
    accesses.push_back(src.access(call, "src", (p.startIndex + r * p.srcStride) * 512, 512, false));
    accesses.push_back(dst.access(call, "dst", r * (1 + p.dstGap) * 512, 512, true));
  }
  (dst.space() == emu::kL0a ? machine.counters().l1_to_l0a : machine.counters().l1_to_l0b) += p.repeatTimes * 512;
  machine.issue(emu::kMte1, call, std::move(accesses), [=] {
    for (int64_t r = 0; r < p.repeatTimes; ++r) {
      std::memcpy(reinterpret_cast<uint8_t*>(dst.data()) + r * (1 + p.dstGap) * 512,
                  reinterpret_cast<const uint8_t*>(src.data()) + (p.startIndex + r * p.srcStride) * 512, 512);
    }
  });
}

template <typename T>
struct LoadData3DParamsV2 {
  std::array<int, 4> padList{};  // left, right, top, bottom
  int64_t l1H = 0, l1W = 0, channelSize = 0, kExtension = 0, mExtension = 0, kStartPt = 0, mStartPt = 0, strideW = 1,
          strideH = 1, filterW = 1, filterH = 1, dilationFilterW = 1, dilationFilterH = 1;
  bool enTranspose = false, enSmallK = false;
  T padValue = 0;
  bool filterSizeW = false, filterSizeH = false, fMatrixCtrl = false;
};

// The map in L1, (channels / C0, h, w, C0), unfolded to a matrix with a row an output position and columns ordered
// (channels / C0, filter h, filter w, C0); of it, mExtension rows and kExtension columns. In L0A that matrix, or its
// transpose; in L0B the matrix whose K dimension is the rows.
template <typename T>
void LoadData(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LoadData3DParamsV2<T>& p) {
  const char* call = "LoadData(3D)";
  constexpr int64_t kC0 = 32 / sizeof(T);
  auto& machine = Machine::instance();
  machine.require(emu::Core::kCube, call);
  if (src.space() != emu::kL1 || (dst.space() != emu::kL0a && dst.space() != emu::kL0b)) {
    fault("%s: from %s to %s, expected L1 to L0A or L0B", call, emu::name(src.space()), emu::name(dst.space()));
  }
  for (const int pad : p.padList) {
    detail::in_range(call, "padList", pad, 0, 255);
  }
  detail::in_range(call, "l1H", p.l1H, 1, 32767);
  detail::in_range(call, "l1W", p.l1W, 1, 32767);
  detail::in_range(call, "channelSize", p.channelSize, 1, 65535);
  detail::in_range(call, "kExtension", p.kExtension, 1, 65535);
  detail::in_range(call, "mExtension", p.mExtension, 1, 65535);
  detail::in_range(call, "kStartPt", p.kStartPt, 0, 65535);
  detail::in_range(call, "mStartPt", p.mStartPt, 0, 32767);
  detail::in_range(call, "strideW", p.strideW, 1, 63);
  detail::in_range(call, "strideH", p.strideH, 1, 63);
  detail::in_range(call, "filterW", p.filterW, 1, 255);
  detail::in_range(call, "filterH", p.filterH, 1, 255);
  detail::in_range(call, "dilationFilterW", p.dilationFilterW, 1, 255);
  detail::in_range(call, "dilationFilterH", p.dilationFilterH, 1, 255);
  detail::aligned(call, "src", src.address(), 32);
  detail::aligned(call, "dst", dst.address(), 512);
  if (p.channelSize % kC0 != 0 || p.kStartPt % kC0 != 0 || p.kExtension % kC0 != 0 || p.enSmallK || p.filterSizeW ||
      p.filterSizeH || p.fMatrixCtrl) {
    fault("%s: channels or columns that fill no 32-byte block, and the flags of this call, are not implemented", call);
  }
  const int64_t w_out = (p.l1W + p.padList[0] + p.padList[1] - p.dilationFilterW * (p.filterW - 1) - 1) / p.strideW + 1;
  const int64_t h_out = (p.l1H + p.padList[2] + p.padList[3] - p.dilationFilterH * (p.filterH - 1) - 1) / p.strideH + 1;
  const int64_t taps = p.filterH * p.filterW, columns = p.channelSize * taps;
  if (w_out < 1 || h_out < 1 || p.mStartPt + p.mExtension > w_out * h_out || p.kStartPt + p.kExtension > columns) {
    fault("%s: rows %lld + %lld, columns %lld + %lld of a matrix of %lld x %lld rows, %lld columns", call,
          static_cast<long long>(p.mStartPt), static_cast<long long>(p.mExtension), static_cast<long long>(p.kStartPt),
          static_cast<long long>(p.kExtension), static_cast<long long>(h_out), static_cast<long long>(w_out),
          static_cast<long long>(columns));
  }
  if (sizeof(T) == 2 && p.mExtension % 16 != 0 && p.mStartPt + p.mExtension != w_out * h_out) {
    fault("%s: mExtension %lld must be a multiple of 16 unless it reaches the last row (%lld + %lld of %lld)", call,
          static_cast<long long>(p.mExtension), static_cast<long long>(p.mStartPt),
          static_cast<long long>(p.mExtension), static_cast<long long>(w_out * h_out));
  }
  const bool to_b = dst.space() == emu::kL0b;
  if (p.enTranspose && to_b) {
    fault("%s: enTranspose has no meaning towards L0B", call);
  }
  // Where element (row, column) of the piece goes, in elements.
  const int64_t row_blocks = (p.mExtension + 15) / 16, k_blocks = p.kExtension / kC0;
  const int64_t wide_columns = (p.kExtension + 15) / 16 * 16;
  const bool transposed = p.enTranspose || to_b;
  const auto place = [=](int64_t row, int64_t column) {
    if (!transposed) {  // fractals of 16 rows, kC0 columns; row of fractals after row of fractals
      return ((row / 16 * k_blocks + column / kC0) * 16 + row % 16) * kC0 + column % kC0;
    }
    const int64_t k_block = row / kC0, k_all = row_blocks * 16 / kC0;  // rows are the K dimension now
    if (to_b) {
      return (k_block * wide_columns + column) * kC0 + row % kC0;
    }
    return ((column / 16 * k_all + k_block) * 16 + column % 16) * kC0 + row % kC0;
  };
  const auto source = [=](int64_t row, int64_t column) -> int64_t {  // -1: padding
    const int64_t position = p.mStartPt + row, k = p.kStartPt + column;
    const int64_t tap = k / kC0 % taps, c1 = k / kC0 / taps;
    const int64_t h = position / w_out * p.strideH + tap / p.filterW * p.dilationFilterH - p.padList[2];
    const int64_t w = position % w_out * p.strideW + tap % p.filterW * p.dilationFilterW - p.padList[0];
    return h < 0 || h >= p.l1H || w < 0 || w >= p.l1W ? -1 : ((c1 * p.l1H + h) * p.l1W + w) * kC0 + k % kC0;
  };
  // All of the map between the first and the last pixel that are read, for each block of channels; whole fractals.
  std::vector<emu::Access> accesses;
  const int64_t plane = p.l1H * p.l1W * kC0;
  std::vector<std::pair<int64_t, int64_t>> read(p.channelSize / kC0, {-1, -1});
  for (int64_t row = 0; row < p.mExtension; ++row) {
    for (int64_t column = 0; column < p.kExtension; column += kC0) {
      const int64_t from = source(row, column);
      if (from >= 0) {
        auto& [first, last] = read[from / plane];
        first = first < 0 ? from : std::min(first, from);
        last = std::max(last, from);
      }
    }
  }
  for (const auto& [first, last] : read) {
    if (first >= 0) {
      accesses.push_back(src.access(call, "src", first * sizeof(T), (last - first + kC0) * sizeof(T), false));
    }
  }
  for (int64_t row = 0; row < p.mExtension; row += transposed ? kC0 : 16) {
    for (int64_t column = 0; column < p.kExtension; column += transposed ? 16 : kC0) {
      const int64_t fractal = place(row, column) * static_cast<int64_t>(sizeof(T)) / 512;
      accesses.push_back(dst.access(call, "dst", fractal * 512, 512, true));
    }
  }
  (to_b ? machine.counters().l1_to_l0b : machine.counters().l1_to_l0a) +=
      row_blocks * 16 * (transposed ? wide_columns : p.kExtension) * static_cast<int64_t>(sizeof(T));
  machine.issue(emu::kMte1, call, std::move(accesses), [=] {
    for (int64_t row = 0; row < p.mExtension; ++row) {
      for (int64_t column = 0; column < p.kExtension; column += kC0) {
        const int64_t from = source(row, column);
        for (int64_t i = 0; i < kC0; ++i) {
          dst.data()[place(row, column + i)] = from < 0 ? p.padValue : src.data()[from + i];
        }
      }
    }
  });
}

struct MmadParams {
  int64_t m = 0, n = 0, k = 0;
  bool cmatrixInitVal = true, cmatrixSource = false, isBias = false;
  int64_t unitFlag = 0;
  bool kDirectionAlign = false;
};

// dst (m, n) = or += fm (m, k) filter (k, n), added up in float.
template <typename T>
void Mmad(const LocalTensor<float>& dst, const LocalTensor<T>& fm, const LocalTensor<T>& filter, const MmadParams& p) {
  const char* call = "Mmad";
  constexpr int64_t kC0 = 32 / sizeof(T);
  auto& machine = Machine::instance();
  machine.require(emu::Core::kCube, call);
  detail::in_range(call, "m", p.m, 0, 4095);
  detail::in_range(call, "n", p.n, 0, 4095);
  detail::in_range(call, "k", p.k, 0, 4095);
  detail::aligned(call, "dst", dst.address(), 1024);
  detail::aligned(call, "fm", fm.address(), 512);
  detail::aligned(call, "filter", filter.address(), 512);
  if (dst.space() != emu::kL0c || fm.space() != emu::kL0a || filter.space() != emu::kL0b) {
    fault("%s: operands in %s, %s, %s, expected L0C, L0A, L0B", call, emu::name(dst.space()), emu::name(fm.space()),
          emu::name(filter.space()));
  }
  if (p.cmatrixSource || p.isBias || p.unitFlag) {
    fault("%s: bias and unit flags are not implemented", call);
  }
  if (p.m == 1) {
    fault("%s: m = 1 makes this a vector-matrix product with another layout of fm, which is not implemented", call);
  }
  if (p.m == 0 || p.n == 0 || p.k == 0) {
    return;
  }
  const int64_t unit = p.kDirectionAlign && sizeof(T) == 4 ? 16 : kC0;
  const int64_t k_blocks = (p.k + unit - 1) / unit * unit / kC0;
  const int64_t n_wide = (p.n + 15) / 16 * 16, m_wide = (p.m + 15) / 16 * 16;
  const auto a = [=](int64_t m, int64_t k) { return ((m / 16 * k_blocks + k / kC0) * 16 + m % 16) * kC0 + k % kC0; };
  const auto b = [=](int64_t k, int64_t n) { return (k / kC0 * n_wide + n) * kC0 + k % kC0; };
  const auto c = [=](int64_t m, int64_t n) { return (n / 16 * m_wide + m) * 16 + n % 16; };
  std::vector<emu::Access> accesses;
  for (int64_t k = 0; k < p.k; k += kC0) {
    for (int64_t m = 0; m < p.m; m += 16) {
      accesses.push_back(fm.access(call, "fm", a(m, k) * sizeof(T), 512, false));
    }
    for (int64_t n = 0; n < p.n; n += 16) {
      accesses.push_back(filter.access(call, "filter", b(k, n) * sizeof(T), 512, false));
    }
  }
  // Large enough, and the unit itself keeps the order of instructions that add to one matrix.
  const bool self_ordered = !p.cmatrixInitVal && (p.m / 16) * (p.n / 16) >= 10;
  for (int64_t n = 0; n < p.n; n += 16) {
    const emu::Access access = dst.access(call, "dst", c(0, n) * 4, p.m * 64, true);
    accesses.push_back(access);
    if (!p.cmatrixInitVal) {
      accesses.push_back({access.space, access.address, access.bytes, false});
    }
  }
  if (self_ordered) {
    machine.barrier(emu::kM);
  }
  machine.counters().mmad += 1;
  machine.counters().cube_macs += m_wide * n_wide * ((p.k + kC0 - 1) / kC0 * kC0);
  machine.issue(emu::kM, call, std::move(accesses), [=] {
    for (int64_t m = 0; m < p.m; ++m) {
      for (int64_t n = 0; n < p.n; ++n) {
        float sum = p.cmatrixInitVal ? 0.0f : dst.data()[c(m, n)];
        for (int64_t k = 0; k < p.k; k += kC0) {
          const T *left = fm.data() + a(m, k), *right = filter.data() + b(k, n);
          for (int64_t i = 0; i < kC0 && k + i < p.k; ++i) {
            sum += static_cast<float>(left[i]) * static_cast<float>(right[i]);
          }
        }
        dst.data()[c(m, n)] = sum;
      }
    }
  });
}

struct FixpipeParamsV220 {
  int64_t nSize = 0, mSize = 0, srcStride = 0, dstStride = 0;
  QuantMode_t quantPre = QuantMode_t::NoQuant;
  uint64_t deqScalar = 0;
  int64_t ndNum = 1, srcNdStride = 0, dstNdStride = 0;
  bool reluEn = false;
  int64_t unitFlag = 0;
  bool isChannelSplit = false;
};

// L0C to rows in global memory, dstStride elements apart.
template <typename T, typename U, const FixpipeConfig& config = CFG_ROW_MAJOR>
void Fixpipe(const GlobalTensor<T>& dst, const LocalTensor<U>& src, const FixpipeParamsV220& p) {
  static_assert(std::is_same_v<U, float>);
  const char* call = "Fixpipe";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kCube, call);
  detail::in_range(call, "nSize", p.nSize, 1, 4095);
  detail::in_range(call, "mSize", p.mSize, 1, 8192);
  detail::in_range(call, "srcStride", p.srcStride, 1, 65535);
  detail::in_range(call, "dstStride", p.dstStride, 1, 4294967295);
  detail::aligned(call, "src", src.address(), 64);
  if (p.nSize % 16 != 0) {
    fault("%s: nSize %lld, expected a multiple of 16", call, static_cast<long long>(p.nSize));
  }
  if (config.format != CO2Layout::ROW_MAJOR || p.ndNum != 1 || p.reluEn || p.unitFlag || p.isChannelSplit ||
      p.deqScalar) {
    fault("%s: only one matrix to rows, without ReLU, unit flags or channel split, is implemented", call);
  }
  if (p.quantPre != (sizeof(T) == 2 ? QuantMode_t::F322F16 : QuantMode_t::NoQuant)) {
    fault("%s: quantPre %d does not fit an output of %zu bytes", call, p.quantPre, sizeof(T));
  }
  std::vector<emu::Access> accesses;
  for (int64_t m = 0; m < p.mSize; ++m) {
    for (int64_t n = 0; n < p.nSize; n += 16) {
      accesses.push_back(src.access(call, "src", (n / 16 * p.srcStride + m) * 64, 64, false));
    }
    accesses.push_back(dst.access(m * p.dstStride * sizeof(T), p.nSize * sizeof(T), true));
  }
  machine.counters().l0c_to_gm += p.mSize * p.nSize * static_cast<int64_t>(sizeof(T));
  machine.issue(emu::kFix, call, std::move(accesses), [=] {
    for (int64_t m = 0; m < p.mSize; ++m) {
      for (int64_t n = 0; n < p.nSize; ++n) {
        dst.data()[m * p.dstStride + n] = static_cast<T>(src.data()[(n / 16 * p.srcStride + m) * 16 + n % 16]);
      }
    }
  });
}
