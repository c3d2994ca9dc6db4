// SPDX-License-Identifier: Apache-2.0
// Kernels with one deliberate fault each, and the sound kernel that they are made from.
#include <cstdio>
#include <cstring>
#include <string>

#include "kernel_operator.h"

namespace {

using namespace AscendC;

constexpr int32_t kTile = 256, kTiles = 8;

// y = (x + 1) * 2 in tiles. Fault "" is the sound kernel.
struct VectorKernel {
  std::string fault;
  GlobalTensor<float> x, y;
  int64_t elements;

  bool is(const char* name) const { return fault == name; }

  void run() {
    TPipe pipe;
    TQue<TPosition::VECIN, 2> in;
    TQue<TPosition::VECOUT, 2> out;
    TBuf<TPosition::VECCALC> room, bits;
    pipe.InitBuffer(in, 2, kTile * sizeof(float));
    pipe.InitBuffer(out, 2, kTile * sizeof(float));
    pipe.InitBuffer(room, kTile * sizeof(float));
    pipe.InitBuffer(bits, 32);
    if (is("ub overflow")) {
      TBuf<TPosition::VECCALC> more;
      pipe.InitBuffer(more, 190 * 1024);
    }
    if (is("buffer of an odd size")) {
      TBuf<TPosition::VECCALC> more;
      pipe.InitBuffer(more, 100);
    }
    if (is("select without its scratch")) {
      TBuf<TPosition::VECCALC> more;
      pipe.InitBuffer(more, 184 * 1024);
    }
    for (int32_t tile = 0; tile < kTiles; ++tile) {
      // All blocks write the same rows in "race"; else each its own.
      const int64_t at = (is("race between blocks") ? 0 : GetBlockIdx() * kTiles * kTile) + tile * kTile;
      LocalTensor<float> loading = in.AllocTensor<float>();
      if (is("copy of an odd length")) {
        DataCopy(loading, x[at], 3);
      } else if (is("misaligned copy")) {
        DataCopy(loading[3], x[at], kTile - 8);
      } else if (is("read out of range")) {
        DataCopy(loading, x[elements - 8], kTile);
      } else if (is("copy past its buffer")) {
        DataCopy(loading[8], x[at], kTile);
      } else if (!is("missing copy")) {
        DataCopy(loading, x[at], kTile);
      }
      if (!is("missing EnQue")) {
        in.EnQue(loading);
      }
      LocalTensor<float> value = is("missing DeQue") ? loading : in.DeQue<float>();
      LocalTensor<float> sum = room.Get<float>();
      if (is("wrong repeat")) {
        Add(sum, value, value, 64, 300, BinaryRepeatParams{});
      }
      if (is("wrong mask")) {
        Add(sum, value, value, 65, 2, BinaryRepeatParams{});
      }
      if (is("select without its scratch")) {
        Compare(bits.Get<uint8_t>(), value, value, CMPMODE::LE, 64);
        PipeBarrier<PIPE_V>();
        Select(sum, bits.Get<uint8_t>(), value, value, SELMODE::VSEL_TENSOR_TENSOR_MODE, 64);
      }
      if (is("an instruction that is not implemented")) {
        LocalTensor<half> narrow = sum.ReinterpretCast<half>();
        Cast(narrow, value, RoundMode::CAST_FLOOR, 64);
      }
      if (is("misaligned operand")) {
        Adds(sum, value[1], 1.0f, 64);
      }
      Adds(sum, value, 1.0f, kTile);
      if (!is("missing barrier")) {
        PipeBarrier<PIPE_V>();
      }
      LocalTensor<float> leaving = out.AllocTensor<float>();
      Muls(leaving, sum, 2.0f, kTile);
      PipeBarrier<PIPE_V>();
      if (is("scalar read without a flag")) {
        (void)leaving.GetValue(0);
      }
      if (!is("missing FreeTensor")) {
        in.FreeTensor(value);
      }
      if (is("tensor never dequeued")) {
        if (tile == kTiles - 1) {
          in.EnQue(in.AllocTensor<float>());
        }
      }
      out.EnQue(leaving);
      LocalTensor<float> done = out.DeQue<float>();
      DataCopy(y[is("write out of range") ? elements - 8 : at], done, kTile);
      out.FreeTensor(done);
    }
    if (is("flag never waited for")) {
      SetFlag<HardEvent::V_MTE2>(EVENT_ID0);
    }
    if (is("flag set twice")) {
      SetFlag<HardEvent::V_MTE2>(EVENT_ID0);
      SetFlag<HardEvent::V_MTE2>(EVENT_ID0);
    }
    if (is("flag never set")) {
      WaitFlag<HardEvent::V_MTE2>(EVENT_ID0);
    }
    if (is("event id out of range")) {
      SetFlag<HardEvent::V_MTE2>(8);
    }
    if (is("cube instruction on a vector core")) {
      Nd2NzParams copy;
      DataCopy(LocalTensor<float>(), x, copy);
    }
  }
};

// y (16, 16) = x (16, 32) times the transpose of w (16, 32), in two steps of 16 columns.
struct CubeKernel {
  std::string fault;
  GlobalTensor<half> x, w;
  GlobalTensor<float> y;

  bool is(const char* name) const { return fault == name; }

  void run() {
    TPipe pipe;
    TQue<TPosition::A1, 1> a1;
    TQue<TPosition::B1, 1> b1;
    TQue<TPosition::A2, 2> a2;
    TQue<TPosition::B2, 2> b2;
    TQue<TPosition::CO1, 1> c1;
    pipe.InitBuffer(a1, 1, 16 * 32 * sizeof(half));
    pipe.InitBuffer(b1, 1, 16 * 32 * sizeof(half));
    pipe.InitBuffer(a2, 2, is("l0a overflow") ? 40 * 1024 : 512);
    pipe.InitBuffer(b2, 2, is("l0b overflow") ? 40 * 1024 : 512);
    pipe.InitBuffer(c1, 1, is("l0c overflow") ? 130 * 1024 : 1024);
    if (is("l1 overflow")) {
      TBuf<TPosition::A1> more;
      pipe.InitBuffer(more, 511 * 1024);
    }
    Nd2NzParams copy;
    copy.ndNum = 1;
    copy.nValue = 16;
    copy.dValue = 32;
    copy.srcDValue = is("row stride out of range") ? 70000 : 32;
    copy.dstNzC0Stride = 16;
    copy.dstNzNStride = 1;
    LocalTensor<half> left = a1.AllocTensor<half>(), right = b1.AllocTensor<half>();
    DataCopy(left, x, copy);
    DataCopy(right, w, copy);
    a1.EnQue(left);
    b1.EnQue(right);
    left = a1.DeQue<half>();
    right = b1.DeQue<half>();
    LocalTensor<float> sum = c1.AllocTensor<float>();
    for (int32_t step = 0; step < 2; ++step) {
      LocalTensor<half> a = a2.AllocTensor<half>(), b = b2.AllocTensor<half>();
      LoadData2DParams load;
      load.repeatTimes = 1;
      LoadData(is("misaligned fractal") ? a[16] : a, left[step * 256], load);
      LoadData(b, right[step * 256], load);
      a2.EnQue(a);
      b2.EnQue(b);
      a = a2.DeQue<half>();
      b = b2.DeQue<half>();
      MmadParams multiply;
      multiply.m = is("one row") ? 1 : 16;
      multiply.n = 16;
      multiply.k = 16;
      multiply.cmatrixInitVal = step == 0;
      Mmad(sum, a, b, multiply);
      if (!is("sums without a barrier")) {
        PipeBarrier<PIPE_M>();
      }
      a2.FreeTensor(a);
      b2.FreeTensor(b);
    }
    a1.FreeTensor(left);
    b1.FreeTensor(right);
    c1.EnQue(sum);
    sum = c1.DeQue<float>();
    FixpipeParamsV220 out;
    out.nSize = is("fixpipe of 8 columns") ? 8 : 16;
    out.mSize = 16;
    out.srcStride = 16;
    out.dstStride = 16;
    if (is("vector instruction on a cube core")) {
      Adds(sum, sum, 1.0f, 16);
    }
    Fixpipe<float, float, CFG_ROW_MAJOR>(y, sum, out);
    c1.FreeTensor(sum);
  }
};

int guarded(char* error, int size, emu::Core core, int blocks, const emu::Options& options,
            const std::function<void()>& kernel) {
  try {
    emu::Counters counters{};
    emu::Machine::instance().launch(kernel, core, blocks, options, &counters);
    return 0;
  } catch (const emu::Fault& e) {
    std::snprintf(error, size, "%s", e.what());
    return 1;
  }
}

}  // namespace

extern "C" {

// x and y: blocks * 8 * 256 floats.
int vector_kernel(const char* fault, float* x, float* y, int blocks, uint64_t seed, int check_hazards, char* error,
                  int size) {
  auto& machine = emu::Machine::instance();
  const int64_t elements = int64_t{blocks} * kTiles * kTile;
  machine.reset_buffers();
  machine.add_buffer("x", x, elements * 4);
  machine.add_buffer("y", y, elements * 4);
  return guarded(error, size, emu::Core::kVector, blocks, {seed, check_hazards != 0}, [&] {
    VectorKernel kernel{fault, {}, {}, elements};
    kernel.x.SetGlobalBuffer(x);
    kernel.y.SetGlobalBuffer(y);
    kernel.run();
  });
}

int cube_kernel(const char* fault, half* x, half* w, float* y, uint64_t seed, int check_hazards, char* error,
                int size) {
  auto& machine = emu::Machine::instance();
  machine.reset_buffers();
  machine.add_buffer("x", x, 16 * 32 * 2);
  machine.add_buffer("w", w, 16 * 32 * 2);
  machine.add_buffer("y", y, 16 * 16 * 4);
  return guarded(error, size, emu::Core::kCube, 1, {seed, check_hazards != 0}, [&] {
    CubeKernel kernel{fault, {}, {}, {}};
    kernel.x.SetGlobalBuffer(x);
    kernel.w.SetGlobalBuffer(w);
    kernel.y.SetGlobalBuffer(y);
    kernel.run();
  });
}

}  // extern "C"
