// SPDX-License-Identifier: Apache-2.0
// A model of one Ascend 910B AI core, cube half or vector half, precise enough to find faults in kernels.
//
// Memories have the chip's capacities and start as NaN. The scalar unit runs the kernel as ordinary C++; every other
// instruction goes into the queue of its pipe and executes later, when a random scheduler picks it: pipes run at any
// pace against each other, and within a pipe any order that barriers and flags allow. Besides, each access is checked
// in program order against a happens-before relation, so that a missing synchronisation is reported whatever the
// schedule was. Switch that check off (Options::check_hazards) to see the wrong numbers instead.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace emu {

enum Pipe : int { kS, kV, kM, kMte1, kMte2, kMte3, kFix, kPipes };
enum Space : int { kGm, kUb, kL1, kL0a, kL0b, kL0c, kSpaces };
enum class Core { kVector, kCube };

const char* name(Pipe pipe);
const char* name(Space space);

inline constexpr int64_t kCapacity[kSpaces] = {0, 192 * 1024, 512 * 1024, 64 * 1024, 64 * 1024, 128 * 1024};
// Select in its tensor modes uses the end of UB as scratch.
inline constexpr int64_t kSelectReserve = 8 * 1024;
inline constexpr int kCubeCores = 24, kVectorCores = 48;
inline constexpr int kEventIds = 8;

// What is wrong with the kernel, naming the call.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Counters {
  int64_t gm_to_ub, ub_to_gm, gm_to_l1, l1_to_l0a, l1_to_l0b, l0c_to_gm;  // bytes
  int64_t mmad, cube_macs;                                                // instructions, multiply-adds as padded
  int64_t vector, vector_repeats;                                         // instructions, 256-byte steps
};
inline constexpr int kCounterFields = sizeof(Counters) / sizeof(int64_t);

struct Options {
  uint64_t seed;
  bool check_hazards;
};

// Of a set flag: how much of each pipe's work is known to be done by then.
struct Clock {
  uint64_t done[kPipes];
};

// One synchronisation flag, an event id's or a queue buffer's.
struct Flag {
  bool pending = false;  // in program order: set, and not yet waited for
  Clock clock{};
  int64_t raised = 0;  // in execution order
};

struct Access {
  Space space;
  uint64_t address;  // of GM: a host address
  int64_t bytes;
  bool write;
};

class Machine {
 public:
  static Machine& instance();

  // ---- around a launch ----
  void reset_buffers() { buffers_.clear(); }
  void add_buffer(std::string name, void* data, int64_t bytes);
  void launch(const std::function<void()>& kernel, Core core, int blocks, const Options& options, Counters* counters);

  // ---- what the API calls ----
  int block() const { return block_; }
  int blocks() const { return blocks_; }
  Counters& counters() { return counters_; }
  void require(Core core, const char* call) const;
  uint32_t allocate(Space space, int64_t bytes, const char* call);
  int64_t used(Space space) const { return used_[space]; }
  uint8_t* local(Space space, uint64_t address) { return memory_[space].data() + address; }

  void issue(Pipe pipe, const char* call, std::vector<Access> accesses, std::function<void()> run);
  void barrier(Pipe pipe);
  void barrier_all();
  void set(Pipe source, Flag& flag, const char* call);
  void wait(Pipe destination, Flag& flag, const char* call);
  Flag& event(Pipe source, Pipe destination, int id, const char* call);
  // A read or write by the scalar unit, at once.
  void scalar_access(const char* call, Access access);
  // At the end of a block `check` says what a queue still holds, or nothing.
  void at_block_end(std::function<std::string()> check) { end_checks_.push_back(std::move(check)); }

 private:
  struct Buffer {
    std::string name;
    uint8_t* data;
    int64_t bytes;
    std::vector<uint64_t> writes, reads;  // a tag each two bytes
  };
  struct Cell {
    uint64_t write;
    uint64_t read[kPipes];
  };
  struct Instruction {
    enum Kind { kRun, kSet, kWait, kBarrier } kind;
    std::function<void()> run;
    Flag* flag;
  };

  void check(Pipe pipe, uint64_t sequence, const char* call, const Access& access);
  void check_global(Pipe pipe, uint64_t sequence, const char* call, const Access& access);
  [[noreturn]] void hazard(Pipe pipe, const char* call, const std::string& what, uint64_t tag, const char* verb) const;
  bool ordered(Pipe pipe, uint64_t tag) const { return (tag >> 3) <= known_[pipe].done[tag & 7]; }
  static uint64_t tag(Pipe pipe, uint64_t sequence) { return sequence << 3 | pipe; }
  bool step();
  void run_some();
  void drain();
  void begin_block(int block);
  void end_block();

  std::vector<Buffer> buffers_;
  std::vector<uint8_t> memory_[kSpaces];
  std::vector<Cell> cells_[kSpaces];
  int64_t used_[kSpaces] = {};
  std::deque<Instruction> queue_[kPipes];
  Clock known_[kPipes] = {};
  uint64_t last_[kPipes] = {};
  uint64_t sequence_ = 0, block_base_ = 0;
  std::vector<const char*> calls_;  // of this block, by sequence
  std::map<int, Flag> events_;
  std::vector<std::function<std::string()>> end_checks_;
  std::mt19937_64 random_;
  Options options_{0, true};
  Core core_ = Core::kVector;
  Counters counters_{};
  int block_ = 0, blocks_ = 1;
};

// printf into a Fault.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emu
