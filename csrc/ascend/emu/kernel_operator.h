// SPDX-License-Identifier: Apache-2.0
// The part of the Ascend C interface that the kernels here use, on the emulated core of machine.h. Names, parameters
// and limits are those of the public API reference for Atlas A2 (NPU architecture 2201); nothing is taken from CANN.
// Integer parameters are wider than in the API, so that a value which the real type would cut off is seen here.
// What is not implemented either does not compile or faults, naming the call.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "machine.h"

#define __global__
#define __aicore__
#define __gm__
#define GM_ADDR uint8_t*
#define KERNEL_TASK_TYPE_DEFAULT(type) ::AscendC::TaskType(::AscendC::type)
#define REGISTER_TILING_DEFAULT(type) using EmuTilingData = type
#define GET_TILING_DATA(name, address) \
  EmuTilingData name;                  \
  std::memcpy(&name, address, sizeof name)

using half = _Float16;

enum pipe_t { PIPE_S, PIPE_V, PIPE_M, PIPE_MTE1, PIPE_MTE2, PIPE_MTE3, PIPE_FIX, PIPE_ALL };
enum event_t { EVENT_ID0, EVENT_ID1, EVENT_ID2, EVENT_ID3, EVENT_ID4, EVENT_ID5, EVENT_ID6, EVENT_ID7 };
enum QuantMode_t { NoQuant, F322F16, F322BF16 };

namespace AscendC {

using emu::fault;
using emu::Machine;

enum class TPosition { GM, A1, A2, B1, B2, C1, C2, CO1, CO2, VECIN, VECOUT, VECCALC };
using QuePosition = TPosition;
enum class HardEvent {
  MTE2_V,
  V_MTE2,
  V_MTE3,
  MTE3_V,
  MTE2_MTE3,
  MTE3_MTE2,
  V_S,
  S_V,
  MTE2_S,
  S_MTE3,
  MTE3_S,
  S_MTE2,
  MTE2_MTE1,
  MTE1_MTE2,
  MTE1_M,
  M_MTE1,
  M_FIX,
  FIX_M
};
enum class RoundMode { CAST_NONE, CAST_RINT, CAST_FLOOR, CAST_CEIL, CAST_ROUND, CAST_TRUNC, CAST_ODD };
enum class CMPMODE { LT, GT, EQ, LE, GE, NE };
enum class SELMODE { VSEL_CMPMASK_SPR, VSEL_TENSOR_SCALAR_MODE, VSEL_TENSOR_TENSOR_MODE };
enum class CO2Layout : uint8_t { NZ = 0, ROW_MAJOR };
enum KernelType { KERNEL_TYPE_AIV_ONLY, KERNEL_TYPE_AIC_ONLY };
struct FixpipeConfig {
  CO2Layout format;
};
inline constexpr FixpipeConfig CFG_NZ{CO2Layout::NZ}, CFG_ROW_MAJOR{CO2Layout::ROW_MAJOR};

inline void TaskType(KernelType type) {
  Machine::instance().require(type == KERNEL_TYPE_AIC_ONLY ? emu::Core::kCube : emu::Core::kVector,
                              "KERNEL_TASK_TYPE_DEFAULT");
}
inline int64_t GetBlockIdx() { return Machine::instance().block(); }
inline int64_t GetBlockNum() { return Machine::instance().blocks(); }

namespace detail {

constexpr emu::Space space(TPosition position) {
  switch (position) {
    case TPosition::A1:
    case TPosition::B1: return emu::kL1;
    case TPosition::A2: return emu::kL0a;
    case TPosition::B2: return emu::kL0b;
    case TPosition::CO1: return emu::kL0c;
    default: return emu::kUb;
  }
}

// Who fills a queue at this position, and who takes from it.
constexpr emu::Pipe producer(TPosition position) {
  switch (position) {
    case TPosition::VECIN:
    case TPosition::A1:
    case TPosition::B1: return emu::kMte2;
    case TPosition::A2:
    case TPosition::B2: return emu::kMte1;
    case TPosition::CO1: return emu::kM;
    default: return emu::kV;
  }
}
constexpr emu::Pipe consumer(TPosition position) {
  switch (position) {
    case TPosition::VECIN: return emu::kV;
    case TPosition::A1:
    case TPosition::B1: return emu::kMte1;
    case TPosition::A2:
    case TPosition::B2: return emu::kM;
    case TPosition::CO1: return emu::kFix;
    default: return emu::kMte3;
  }
}

struct Pair {
  emu::Pipe source, destination;
};
constexpr Pair pipes(HardEvent event) {
  using namespace emu;
  switch (event) {
    case HardEvent::MTE2_V: return {kMte2, kV};
    case HardEvent::V_MTE2: return {kV, kMte2};
    case HardEvent::V_MTE3: return {kV, kMte3};
    case HardEvent::MTE3_V: return {kMte3, kV};
    case HardEvent::MTE2_MTE3: return {kMte2, kMte3};
    case HardEvent::MTE3_MTE2: return {kMte3, kMte2};
    case HardEvent::V_S: return {kV, kS};
    case HardEvent::S_V: return {kS, kV};
    case HardEvent::MTE2_S: return {kMte2, kS};
    case HardEvent::S_MTE3: return {kS, kMte3};
    case HardEvent::MTE3_S: return {kMte3, kS};
    case HardEvent::S_MTE2: return {kS, kMte2};
    case HardEvent::MTE2_MTE1: return {kMte2, kMte1};
    case HardEvent::MTE1_MTE2: return {kMte1, kMte2};
    case HardEvent::MTE1_M: return {kMte1, kM};
    case HardEvent::M_MTE1: return {kM, kMte1};
    case HardEvent::M_FIX: return {kM, kFix};
    case HardEvent::FIX_M: return {kFix, kM};
  }
  return {kS, kS};
}

inline void in_range(const char* call, const char* field, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    fault("%s: %s is %lld, expected %lld..%lld", call, field, static_cast<long long>(value),
          static_cast<long long>(least), static_cast<long long>(most));
  }
}
inline void aligned(const char* call, const char* what, uint64_t address, int64_t to) {
  if (address % to != 0) {
    fault("%s: misaligned: %s starts at byte %llu, expected a multiple of %lld", call, what,
          static_cast<unsigned long long>(address), static_cast<long long>(to));
  }
}

}  // namespace detail

template <typename T>
class LocalTensor {
 public:
  LocalTensor() = default;
  LocalTensor(TPosition position, uint32_t first, uint32_t end, int buffer)
      : position_(position), address_(first), end_(end), buffer_(buffer) {}

  LocalTensor operator[](uint32_t offset) const {
    LocalTensor t = *this;
    t.address_ += offset * static_cast<uint32_t>(sizeof(T));
    return t;
  }
  template <typename U>
  LocalTensor<U> ReinterpretCast() const {
    return LocalTensor<U>(position_, address_, end_, buffer_);
  }
  uint32_t GetSize() const { return (end_ - address_) / sizeof(T); }
  T GetValue(uint32_t i) const {
    scalar("GetValue", i, false);
    return data()[i];
  }
  void SetValue(uint32_t i, T value) const {
    scalar("SetValue", i, true);
    data()[i] = value;
  }

  TPosition position() const { return position_; }
  emu::Space space() const { return detail::space(position_); }
  uint32_t address() const { return address_; }
  int buffer() const { return buffer_; }
  T* data() const { return reinterpret_cast<T*>(Machine::instance().local(space(), address_)); }
  // Of `bytes` from byte `offset` on; faults if they are not all inside the tensor's buffer.
  emu::Access access(const char* call, const char* what, int64_t offset, int64_t bytes, bool write) const {
    if (position_ == TPosition::GM) {
      fault("%s: %s is a tensor that nothing allocated", call, what);
    }
    if (offset < 0 || address_ + offset + bytes > end_) {
      fault("%s: %s ends %lld bytes past its buffer in %s", call, what,
            static_cast<long long>(address_ + offset + bytes - end_), emu::name(space()));
    }
    return {space(), static_cast<uint64_t>(address_ + offset), bytes, write};
  }

 private:
  void scalar(const char* call, uint32_t i, bool write) const {
    if (space() != emu::kUb) {
      fault("%s: the scalar unit does not reach %s", call, emu::name(space()));
    }
    Machine::instance().scalar_access(call, access(call, "the tensor", i * sizeof(T), sizeof(T), write));
  }

  TPosition position_ = TPosition::GM;
  uint32_t address_ = 0, end_ = 0;
  int buffer_ = -1;
};

template <typename T>
class GlobalTensor {
 public:
  void SetGlobalBuffer(T* data) { data_ = data; }
  void SetGlobalBuffer(T* data, uint64_t) { data_ = data; }
  GlobalTensor operator[](uint64_t offset) const {
    GlobalTensor t;
    t.data_ = data_ + offset;
    return t;
  }
  T* data() const { return data_; }
  emu::Access access(int64_t offset, int64_t bytes, bool write) const {
    return {emu::kGm, reinterpret_cast<uint64_t>(data_) + offset, bytes, write};
  }

 private:
  T* data_ = nullptr;
};

// ---- buffers and queues ----

namespace detail {
struct Slot {
  enum State { kFree, kAllocated, kQueued, kTaken } state = kFree;
  uint32_t address = 0;
  emu::Flag filled, freed;
  bool used = false;
};
}  // namespace detail

template <TPosition position, int depth>
class TQue {
 public:
  void init(int number, uint32_t bytes) {
    state_ = std::make_shared<State>();
    if (number > emu::kEventIds) {
      fault("InitBuffer: %d buffers in one queue, expected 1..%d (one event each)", number, emu::kEventIds);
    }
    state_->slots.resize(number);
    state_->bytes = bytes;
    for (auto& slot : state_->slots) {
      slot.address = Machine::instance().allocate(detail::space(position), bytes, "InitBuffer");
    }
    Machine::instance().at_block_end([state = state_] {
      for (const auto& slot : state->slots) {
        if (slot.state != detail::Slot::kFree) {
          static const char* const kWhat[] = {"", "allocated and never enqueued", "enqueued and never dequeued",
                                              "dequeued and never freed"};
          return std::string("unbalanced queue in ") + emu::name(detail::space(position)) + ": a tensor was " +
                 kWhat[slot.state];
        }
      }
      return std::string();
    });
  }

  template <typename T>
  LocalTensor<T> AllocTensor() {
    if (!state_) {
      fault("AllocTensor: the queue has no buffers (InitBuffer was not called)");
    }
    for (size_t step = 0; step < state_->slots.size(); ++step) {
      const size_t i = (state_->next + step) % state_->slots.size();
      auto& slot = state_->slots[i];
      if (slot.state == detail::Slot::kFree) {
        state_->next = i + 1;
        if (slot.used) {
          Machine::instance().wait(detail::producer(position), slot.freed, "AllocTensor");
        }
        slot.state = detail::Slot::kAllocated;
        slot.used = true;
        return LocalTensor<T>(position, slot.address, slot.address + state_->bytes, static_cast<int>(i));
      }
    }
    fault("AllocTensor: deadlock: all %zu buffers of the queue in %s are in use (FreeTensor missing?)",
          state_->slots.size(), emu::name(detail::space(position)));
  }
  template <typename T>
  bool EnQue(const LocalTensor<T>& tensor) {
    auto& slot = find(tensor, "EnQue");
    if (slot.state != detail::Slot::kAllocated) {
      fault("EnQue: the tensor does not come from AllocTensor");
    }
    if (static_cast<int>(state_->queue.size()) >= std::max<int>(depth, static_cast<int>(state_->slots.size()))) {
      fault("EnQue: the queue of depth %d is full", depth);
    }
    slot.state = detail::Slot::kQueued;
    state_->queue.push_back(tensor.buffer());
    Machine::instance().set(detail::producer(position), slot.filled, "EnQue");
    return true;
  }
  template <typename T>
  LocalTensor<T> DeQue() {
    if (!state_ || state_->queue.empty()) {
      fault("DeQue: deadlock: the queue in %s is empty (EnQue missing?)", emu::name(detail::space(position)));
    }
    const int i = state_->queue.front();
    state_->queue.pop_front();
    auto& slot = state_->slots[i];
    slot.state = detail::Slot::kTaken;
    Machine::instance().wait(detail::consumer(position), slot.filled, "DeQue");
    return LocalTensor<T>(position, slot.address, slot.address + state_->bytes, i);
  }
  template <typename T>
  void FreeTensor(LocalTensor<T>& tensor) {
    auto& slot = find(tensor, "FreeTensor");
    if (slot.state != detail::Slot::kTaken) {
      fault("FreeTensor: the tensor was never dequeued (DeQue missing?)");
    }
    slot.state = detail::Slot::kFree;
    Machine::instance().set(detail::consumer(position), slot.freed, "FreeTensor");
  }

 private:
  struct State {
    std::vector<detail::Slot> slots;
    std::deque<int> queue;
    uint32_t bytes = 0;
    size_t next = 0;
  };
  template <typename T>
  detail::Slot& find(const LocalTensor<T>& tensor, const char* call) {
    if (!state_ || tensor.buffer() < 0 || tensor.position() != position ||
        tensor.buffer() >= static_cast<int>(state_->slots.size())) {
      fault("%s: the tensor is not of this queue", call);
    }
    return state_->slots[tensor.buffer()];
  }
  std::shared_ptr<State> state_;
};

template <TPosition position>
class TBuf {
 public:
  void init(uint32_t bytes) {
    bytes_ = bytes;
    address_ = Machine::instance().allocate(detail::space(position), bytes, "InitBuffer");
  }
  template <typename T>
  LocalTensor<T> Get() const {
    if (bytes_ == 0) {
      fault("TBuf::Get: the buffer has no memory (InitBuffer was not called)");
    }
    return LocalTensor<T>(position, address_, address_ + bytes_, -1);
  }

 private:
  uint32_t address_ = 0, bytes_ = 0;
};

class TPipe {
 public:
  template <TPosition position, int depth>
  bool InitBuffer(TQue<position, depth>& queue, int number, uint32_t bytes) {
    queue.init(number, bytes);
    return true;
  }
  template <TPosition position>
  bool InitBuffer(TBuf<position>& buffer, uint32_t bytes) {
    buffer.init(bytes);
    return true;
  }
  // An id that no queue holds; flags of different pairs of pipes never meet, and queues here have flags of their own.
  int FetchEventID(HardEvent) { return 0; }
};

// ---- synchronisation ----

template <HardEvent event>
void SetFlag(int32_t id) {
  constexpr auto pair = detail::pipes(event);
  auto& machine = Machine::instance();
  machine.set(pair.source, machine.event(pair.source, pair.destination, id, "SetFlag"), "SetFlag");
}
template <HardEvent event>
void WaitFlag(int32_t id) {
  constexpr auto pair = detail::pipes(event);
  auto& machine = Machine::instance();
  machine.wait(pair.destination, machine.event(pair.source, pair.destination, id, "WaitFlag"), "WaitFlag");
}
template <pipe_t pipe>
void PipeBarrier() {
  static_assert(pipe != PIPE_S, "the scalar pipe has no barrier");
  if constexpr (pipe == PIPE_ALL) {
    Machine::instance().barrier_all();
  } else {
    Machine::instance().barrier(static_cast<emu::Pipe>(pipe));
  }
}

// ---- vector instructions ----

struct UnaryRepeatParams {
  int dstBlkStride = 1, srcBlkStride = 1, dstRepStride = 8, srcRepStride = 8;
};
struct BinaryRepeatParams {
  int dstBlkStride = 1, src0BlkStride = 1, src1BlkStride = 1, dstRepStride = 8, src0RepStride = 8, src1RepStride = 8;
};

namespace detail {

// An operand of a vector instruction: element e of repeat r sits in block e / per_block of that repeat.
template <typename T>
struct Operand {
  LocalTensor<T> tensor;
  int64_t block_stride, repeat_stride;  // in 32 bytes
  const char* what;
  bool write;

  int64_t offset(int64_t repeat, int64_t element) const {
    constexpr int64_t kPerBlock = 32 / sizeof(T);
    return repeat * repeat_stride * 32 + element / kPerBlock * block_stride * 32 +
           element % kPerBlock * static_cast<int64_t>(sizeof(T));
  }
  T& at(int64_t repeat, int64_t element) const {
    return *reinterpret_cast<T*>(reinterpret_cast<uint8_t*>(tensor.data()) + offset(repeat, element));
  }
  void collect(const char* call, int64_t mask, int64_t repeats, std::vector<emu::Access>& accesses) const {
    aligned(call, what, tensor.address(), 32);
    constexpr int64_t kPerBlock = 32 / sizeof(T);
    for (int64_t r = 0; r < repeats; ++r) {
      if (r > 0 && repeat_stride == 0 && !write) {
        break;
      }
      if (block_stride == 1) {
        accesses.push_back(tensor.access(call, what, offset(r, 0), mask * sizeof(T), write));
        continue;
      }
      for (int64_t e = 0; e < mask; e += kPerBlock) {
        accesses.push_back(tensor.access(call, what, offset(r, e), std::min(kPerBlock, mask - e) * sizeof(T), write));
      }
    }
  }
};

inline void count_vector(int64_t repeats) {
  auto& counters = Machine::instance().counters();
  counters.vector += 1;
  counters.vector_repeats += repeats;
}

// Operand of a computation on the first `count` elements: one long repeat.
template <typename T>
Operand<T> flat(const LocalTensor<T>& tensor, const char* what, bool write = false) {
  return {tensor, 1, 0, what, write};
}

// Runs `compute(repeat, element)` for every lane once the instruction's turn comes.
template <typename Compute, typename... Operands>
void vector(const char* call, int64_t width, int64_t mask, int64_t repeats, Compute compute,
            const Operands&... operands) {
  auto& machine = Machine::instance();
  machine.require(emu::Core::kVector, call);
  (..., [&](const auto& operand) {
    if (operand.tensor.space() != emu::kUb) {
      fault("%s: %s is in %s, expected UB", call, operand.what, emu::name(operand.tensor.space()));
    }
  }(operands));
  if (mask == 0 || repeats == 0) {
    return;
  }
  std::vector<emu::Access> accesses;
  (..., operands.collect(call, mask, repeats, accesses));
  count_vector((mask * width + 255) / 256 * repeats);
  machine.issue(emu::kV, call, std::move(accesses), [=] {
    for (int64_t r = 0; r < repeats; ++r) {
      for (int64_t e = 0; e < mask; ++e) {
        compute(r, e);
      }
    }
  });
}

inline void check_repeat(const char* call, int64_t mask, int64_t repeats, int64_t width) {
  in_range(call, "mask", mask, 1, 256 / width);
  in_range(call, "repeatTime", repeats, 0, 255);
}
inline void check_strides(const char* call, std::initializer_list<int> strides) {
  for (const int stride : strides) {
    in_range(call, "a stride", stride, 0, 255);
  }
}

template <typename T, typename Function>
void binary(const char* call, const LocalTensor<T>& dst, const LocalTensor<T>& a, const LocalTensor<T>& b,
            int64_t count, Function function) {
  const auto d = flat(dst, "dst", true), x = flat(a, "src0"), y = flat(b, "src1");
  vector(
      call, sizeof(T), count, 1, [=](int64_t r, int64_t e) { d.at(r, e) = function(x.at(r, e), y.at(r, e)); }, d, x, y);
}
template <typename T, typename Function>
void binary(const char* call, const LocalTensor<T>& dst, const LocalTensor<T>& a, const LocalTensor<T>& b, int64_t mask,
            int64_t repeats, const BinaryRepeatParams& p, Function function) {
  check_repeat(call, mask, repeats, sizeof(T));
  check_strides(call,
                {p.dstBlkStride, p.src0BlkStride, p.src1BlkStride, p.dstRepStride, p.src0RepStride, p.src1RepStride});
  if (repeats > 1 && p.dstRepStride == 0) {
    fault("%s: dstRepStride 0 with %lld repeats is not implemented", call, static_cast<long long>(repeats));
  }
  const Operand<T> d{dst, p.dstBlkStride, p.dstRepStride, "dst", true};
  const Operand<T> x{a, p.src0BlkStride, p.src0RepStride, "src0", false};
  const Operand<T> y{b, p.src1BlkStride, p.src1RepStride, "src1", false};
  vector(
      call, sizeof(T), mask, repeats, [=](int64_t r, int64_t e) { d.at(r, e) = function(x.at(r, e), y.at(r, e)); }, d,
      x, y);
}
template <typename T, typename Function>
void unary(const char* call, const LocalTensor<T>& dst, const LocalTensor<T>& src, int64_t count, Function function) {
  const auto d = flat(dst, "dst", true), x = flat(src, "src");
  vector(call, sizeof(T), count, 1, [=](int64_t r, int64_t e) { d.at(r, e) = function(x.at(r, e)); }, d, x);
}

}  // namespace detail

// T(...) rounds each result to the type of the operands, as the instruction does.
#define EMU_BINARY(Name, expression)                                                                            \
  template <typename T>                                                                                         \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, int64_t count) { \
    detail::binary(#Name, dst, src0, src1, count, [](T a, T b) { return T(expression); });                      \
  }                                                                                                             \
  template <typename T>                                                                                         \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, uint64_t mask,   \
            int64_t repeatTime, const BinaryRepeatParams& params) {                                             \
    detail::binary(#Name, dst, src0, src1, mask, repeatTime, params, [](T a, T b) { return T(expression); });   \
  }
EMU_BINARY(Add, a + b)
EMU_BINARY(Sub, a - b)
EMU_BINARY(Mul, a* b)
EMU_BINARY(Div, a / b)
EMU_BINARY(Max, a < b ? b : a)
#undef EMU_BINARY

#define EMU_UNARY(Name, expression)                                                \
  template <typename T>                                                            \
  void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, int64_t count) { \
    detail::unary(#Name, dst, src, count, [](T a) { return T(expression); });      \
  }
EMU_UNARY(Relu, a < 0 ? T(0) : a)
EMU_UNARY(Exp, std::exp(static_cast<float>(a)))
EMU_UNARY(Sqrt, std::sqrt(static_cast<float>(a)))
#undef EMU_UNARY

template <typename T>
void Adds(const LocalTensor<T>& dst, const LocalTensor<T>& src, T value, int64_t count) {
  detail::unary("Adds", dst, src, count, [=](T a) { return T(a + value); });
}
template <typename T>
void Muls(const LocalTensor<T>& dst, const LocalTensor<T>& src, T value, int64_t count) {
  detail::unary("Muls", dst, src, count, [=](T a) { return T(a * value); });
}
// dst += src * value
template <typename T>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<T>& src, T value, int64_t count) {
  const auto d = detail::flat(dst, "dst", true), old = detail::flat(dst, "dst"), x = detail::flat(src, "src");
  detail::vector(
      "Axpy", sizeof(T), count, 1, [=](int64_t r, int64_t e) { d.at(r, e) = T(old.at(r, e) + T(x.at(r, e) * value)); },
      d, old, x);
}
template <typename T>
void Duplicate(const LocalTensor<T>& dst, T value, int64_t count) {
  const auto d = detail::flat(dst, "dst", true);
  detail::vector("Duplicate", sizeof(T), count, 1, [=](int64_t r, int64_t e) { d.at(r, e) = value; }, d);
}
template <typename T, typename U>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, RoundMode mode, int64_t count) {
  constexpr bool kWidens = sizeof(T) > sizeof(U);
  if (mode != (kWidens ? RoundMode::CAST_NONE : RoundMode::CAST_RINT)) {
    fault("Cast: round mode %d from %zu to %zu bytes is not implemented", static_cast<int>(mode), sizeof(U), sizeof(T));
  }
  const auto d = detail::flat(dst, "dst", true);
  const auto x = detail::flat(src, "src");
  detail::vector(
      "Cast", std::max(sizeof(T), sizeof(U)), count, 1,
      [=](int64_t r, int64_t e) { d.at(r, e) = static_cast<T>(x.at(r, e)); }, d, x);
}

// One value a repeat, adding neighbours pairwise.
template <typename T>
void WholeReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, int32_t mask, int32_t repeatTime,
                    int32_t dstRepStride, int32_t srcBlkStride, int32_t srcRepStride) {
  const char* call = "WholeReduceSum";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kVector, call);
  detail::check_repeat(call, mask, repeatTime, sizeof(T));
  detail::in_range(call, "dstRepStride", dstRepStride, 0, 65535);
  detail::in_range(call, "srcRepStride", srcRepStride, 0, 65535);
  detail::aligned(call, "dst", dst.address(), sizeof(T));
  if (repeatTime == 0) {
    return;
  }
  const detail::Operand<T> x{src, srcBlkStride, srcRepStride, "src", false};
  std::vector<emu::Access> accesses;
  x.collect(call, mask, repeatTime, accesses);
  for (int32_t r = 0; r < repeatTime; ++r) {
    accesses.push_back(dst.access(call, "dst", r * dstRepStride * sizeof(T), sizeof(T), true));
  }
  detail::count_vector(repeatTime);
  machine.issue(emu::kV, call, std::move(accesses), [=] {
    for (int32_t r = 0; r < repeatTime; ++r) {
      T lanes[256 / sizeof(T)];
      for (int32_t e = 0; e < mask; ++e) {
        lanes[e] = x.at(r, e);
      }
      for (int32_t left = mask; left > 1; left = (left + 1) / 2) {
        for (int32_t e = 0; e < left / 2; ++e) {
          lanes[e] = T(lanes[2 * e] + lanes[2 * e + 1]);
        }
        if (left % 2 == 1) {
          lanes[left / 2] = lanes[left - 1];
        }
      }
      dst.data()[r * dstRepStride] = lanes[0];
    }
  });
}

// One bit an element. `count` elements must fill whole 256-byte steps.
template <typename T>
void Compare(const LocalTensor<uint8_t>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE mode,
             uint32_t count) {
  const char* call = "Compare";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kVector, call);
  if (count * sizeof(T) % 256 != 0) {
    fault("%s: count %u fills no whole number of 256-byte steps", call, count);
  }
  if (mode != CMPMODE::LE) {
    fault("%s: mode %d is not implemented", call, static_cast<int>(mode));
  }
  const auto x = detail::flat(src0, "src0"), y = detail::flat(src1, "src1");
  std::vector<emu::Access> accesses{dst.access(call, "dst", 0, count / 8, true)};
  detail::aligned(call, "dst", dst.address(), 32);
  x.collect(call, count, 1, accesses);
  y.collect(call, count, 1, accesses);
  detail::count_vector(count * sizeof(T) / 256);
  machine.issue(emu::kV, call, std::move(accesses), [=] {
    for (uint32_t i = 0; i < count; i += 8) {
      uint8_t bits = 0;
      for (uint32_t j = 0; j < 8; ++j) {
        bits |= static_cast<uint8_t>(x.at(0, i + j) <= y.at(0, i + j)) << j;
      }
      dst.data()[i / 8] = bits;
    }
  });
}

// src0 where the bit is set, else src1.
template <typename T>
void Select(const LocalTensor<T>& dst, const LocalTensor<uint8_t>& mask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE mode, uint32_t count) {
  const char* call = "Select";
  auto& machine = Machine::instance();
  machine.require(emu::Core::kVector, call);
  if (mode != SELMODE::VSEL_TENSOR_TENSOR_MODE) {
    fault("%s: mode %d is not implemented", call, static_cast<int>(mode));
  }
  if (machine.used(emu::kUb) > emu::kCapacity[emu::kUb] - emu::kSelectReserve) {
    fault("%s: UB overflow: this mode needs the last %lld bytes of UB, which are allocated", call,
          static_cast<long long>(emu::kSelectReserve));
  }
  const auto d = detail::flat(dst, "dst", true), x = detail::flat(src0, "src0"), y = detail::flat(src1, "src1");
  std::vector<emu::Access> accesses{mask.access(call, "selMask", 0, (count + 7) / 8, false)};
  detail::aligned(call, "selMask", mask.address(), 32);
  d.collect(call, count, 1, accesses);
  x.collect(call, count, 1, accesses);
  y.collect(call, count, 1, accesses);
  detail::count_vector((count * sizeof(T) + 255) / 256);
  machine.issue(emu::kV, call, std::move(accesses), [=] {
    for (uint32_t i = 0; i < count; ++i) {
      d.at(0, i) = mask.data()[i / 8] >> (i % 8) & 1 ? x.at(0, i) : y.at(0, i);
    }
  });
}

#include "kernel_operator_cube.h"
#include "kernel_operator_dma.h"

}  // namespace AscendC
