// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <numeric>

namespace emu {
namespace {

// Bytes that one cell of the shadow memory stands for: as fine as the finest independent accesses.
constexpr int64_t kGrain[kSpaces] = {2, 4, 32, 512, 512, 64};

}  // namespace

const char* name(Pipe pipe) {
  static const char* const kNames[] = {"PIPE_S", "PIPE_V", "PIPE_M", "PIPE_MTE1", "PIPE_MTE2", "PIPE_MTE3", "PIPE_FIX"};
  return kNames[pipe];
}

const char* name(Space space) {
  static const char* const kNames[] = {"GM", "UB", "L1", "L0A", "L0B", "L0C"};
  return kNames[space];
}

void fault(const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  throw Fault(text);
}

Machine& Machine::instance() {
  static Machine machine;
  return machine;
}

void Machine::add_buffer(std::string name, void* data, int64_t bytes) {
  buffers_.push_back({std::move(name), static_cast<uint8_t*>(data), bytes, std::vector<uint64_t>(bytes / 2 + 1),
                      std::vector<uint64_t>(bytes / 2 + 1)});
}

void Machine::launch(const std::function<void()>& kernel, Core core, int blocks, const Options& options,
                     Counters* counters) {
  const int most = core == Core::kCube ? kCubeCores : kVectorCores;
  if (blocks < 1 || blocks > most) {
    fault("launch: got %d blocks, expected 1..%d", blocks, most);
  }
  options_ = options;
  core_ = core;
  blocks_ = blocks;
  counters_ = {};
  random_.seed(options.seed);
  for (int space = kUb; space < kSpaces; ++space) {
    memory_[space].resize(kCapacity[space]);
    cells_[space].resize(kCapacity[space] / kGrain[space]);
  }
  std::vector<int> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_);
  for (const int block : order) {
    begin_block(block);
    try {
      kernel();
      end_block();
    } catch (const Fault& error) {
      throw Fault(std::string(error.what()) + " [block " + std::to_string(block) + ", seed " +
                  std::to_string(options.seed) + "]");
    }
  }
  *counters = counters_;
}

void Machine::begin_block(int block) {
  block_ = block;
  block_base_ = sequence_;
  std::fill(std::begin(used_), std::end(used_), 0);
  std::fill(std::begin(last_), std::end(last_), sequence_);
  for (int pipe = 0; pipe < kPipes; ++pipe) {
    queue_[pipe].clear();
    std::fill_n(known_[pipe].done, static_cast<int>(kPipes), sequence_);
  }
  calls_.clear();
  events_.clear();
  end_checks_.clear();
}

void Machine::end_block() {
  drain();
  for (const auto& check : end_checks_) {
    const std::string text = check();
    if (!text.empty()) {
      fault("%s", text.c_str());
    }
  }
  for (const auto& [key, flag] : events_) {
    if (flag.pending) {
      fault("end of kernel: SetFlag<%s to %s>(%d) has no WaitFlag", name(static_cast<Pipe>(key / 64)),
            name(static_cast<Pipe>(key / 8 % 8)), key % 8);
    }
  }
}

void Machine::require(Core core, const char* call) const {
  if (core != core_) {
    fault("%s: is of the %s core, the kernel runs on the %s core", call, core == Core::kCube ? "cube" : "vector",
          core_ == Core::kCube ? "cube" : "vector");
  }
}

uint32_t Machine::allocate(Space space, int64_t bytes, const char* call) {
  if (bytes <= 0 || bytes % 32 != 0) {
    fault("%s: got %lld bytes in %s, expected a positive multiple of 32", call, static_cast<long long>(bytes),
          name(space));
  }
  if (used_[space] + bytes > kCapacity[space]) {
    fault("%s: %s overflow: %lld bytes in use, %lld more asked for, %lld there", call, name(space),
          static_cast<long long>(used_[space]), static_cast<long long>(bytes),
          static_cast<long long>(kCapacity[space]));
  }
  const int64_t address = used_[space];
  used_[space] += bytes;
  std::memset(local(space, address), 0xff, bytes);  // NaN as float and as half
  return static_cast<uint32_t>(address);
}

void Machine::hazard(Pipe pipe, const char* call, const std::string& what, uint64_t tag, const char* verb) const {
  const uint64_t index = (tag >> 3) - block_base_ - 1;
  fault("hazard: %s (%s) %s that %s (%s) %s, with no synchronisation between them", call, name(pipe), what.c_str(),
        index < calls_.size() ? calls_[index] : "?", name(static_cast<Pipe>(tag & 7)), verb);
}

void Machine::check(Pipe pipe, uint64_t sequence, const char* call, const Access& access) {
  if (access.space == kGm) {
    check_global(pipe, sequence, call, access);
    return;
  }
  if (!options_.check_hazards) {
    return;
  }
  const uint64_t mine = tag(pipe, sequence);
  const int64_t grain = kGrain[access.space];
  const int64_t first = access.address / grain, last = (access.address + access.bytes - 1) / grain;
  for (int64_t i = first; i <= last; ++i) {
    Cell& cell = cells_[access.space][i];
    const bool written = (cell.write >> 3) > block_base_;
    if (written && cell.write != mine && !ordered(pipe, cell.write)) {
      hazard(pipe, call, std::string(access.write ? "writes " : "reads ") + name(access.space), cell.write, "writes");
    }
    if (!access.write) {
      if (!written) {
        fault("%s: reads %s at byte %lld, which nothing has written", call, name(access.space),
              static_cast<long long>(i * grain));
      }
      cell.read[pipe] = mine;
      continue;
    }
    for (int other = 0; other < kPipes; ++other) {
      const uint64_t read = cell.read[other];
      if ((read >> 3) > block_base_ && read != mine && !ordered(pipe, read)) {
        hazard(pipe, call, std::string("writes ") + name(access.space), read, "reads");
      }
    }
    cell.write = mine;
  }
}

void Machine::check_global(Pipe pipe, uint64_t sequence, const char* call, const Access& access) {
  const auto* address = reinterpret_cast<const uint8_t*>(access.address);
  const auto found = std::find_if(buffers_.begin(), buffers_.end(),
                                  [&](const Buffer& b) { return address >= b.data && address < b.data + b.bytes; });
  if (found == buffers_.end()) {
    fault("%s: global access out of range: the address lies in no tensor", call);
  }
  const int64_t offset = address - found->data;
  if (offset + access.bytes > found->bytes) {
    fault("%s: global access out of range: bytes %lld..%lld of '%s', which has %lld", call,
          static_cast<long long>(offset), static_cast<long long>(offset + access.bytes), found->name.c_str(),
          static_cast<long long>(found->bytes));
  }
  if (!options_.check_hazards) {
    return;
  }
  const uint64_t mine = tag(pipe, sequence);
  for (int64_t i = offset / 2; i <= (offset + access.bytes - 1) / 2; ++i) {
    for (const bool earlier_write : {true, false}) {
      const uint64_t earlier = earlier_write ? found->writes[i] : found->reads[i];
      if (earlier == 0 || earlier == mine || (!earlier_write && !access.write)) {
        continue;
      }
      const bool race = (earlier >> 3) <= block_base_;
      if (!race && ordered(pipe, earlier)) {
        continue;
      }
      const std::string what = std::string(access.write ? "writes '" : "reads '") + found->name + "'";
      if (race) {
        fault("race: %s %s at byte %lld, which another block of the same launch %s", call, what.c_str(),
              static_cast<long long>(i * 2), earlier_write ? "writes" : "reads");
      }
      hazard(pipe, call, what, earlier, earlier_write ? "writes" : "reads");
    }
    (access.write ? found->writes : found->reads)[i] = mine;
  }
}

void Machine::issue(Pipe pipe, const char* call, std::vector<Access> accesses, std::function<void()> run) {
  const uint64_t sequence = ++sequence_;
  calls_.push_back(call);
  // Reads first: an instruction may write over what it reads.
  for (const bool write : {false, true}) {
    for (const Access& access : accesses) {
      if (access.write == write && access.bytes > 0) {
        check(pipe, sequence, call, access);
      }
    }
  }
  last_[pipe] = sequence;
  queue_[pipe].push_back({Instruction::kRun, std::move(run), nullptr});
  run_some();
}

void Machine::scalar_access(const char* call, Access access) {
  run_some();
  const uint64_t sequence = ++sequence_;
  calls_.push_back(call);
  check(kS, sequence, call, access);
  last_[kS] = sequence;
  known_[kS].done[kS] = sequence;  // the scalar unit runs in order
}

void Machine::barrier(Pipe pipe) {
  known_[pipe].done[pipe] = last_[pipe];
  queue_[pipe].push_back({Instruction::kBarrier, nullptr, nullptr});
}

void Machine::barrier_all() {
  drain();
  for (auto& known : known_) {
    std::copy(std::begin(last_), std::end(last_), known.done);
  }
}

Flag& Machine::event(Pipe source, Pipe destination, int id, const char* call) {
  if (id < 0 || id >= kEventIds) {
    fault("%s: event id %d, expected 0..%d", call, id, kEventIds - 1);
  }
  return events_[source * 64 + destination * 8 + id];
}

void Machine::set(Pipe source, Flag& flag, const char* call) {
  if (flag.pending) {
    fault("%s: the flag from %s is set already and nothing waited for it", call, name(source));
  }
  flag.pending = true;
  flag.clock = known_[source];
  flag.clock.done[source] = last_[source];
  if (source == kS) {
    ++flag.raised;
  } else {
    queue_[source].push_back({Instruction::kSet, nullptr, &flag});
  }
}

void Machine::wait(Pipe destination, Flag& flag, const char* call) {
  if (!flag.pending) {
    fault("%s: deadlock: %s waits for a flag that nothing sets", call, name(destination));
  }
  flag.pending = false;
  for (int pipe = 0; pipe < kPipes; ++pipe) {
    uint64_t& done = known_[destination].done[pipe];
    done = std::max(done, flag.clock.done[pipe]);
  }
  if (destination == kS) {
    while (flag.raised == 0) {
      step();
    }
    --flag.raised;
  } else {
    queue_[destination].push_back({Instruction::kWait, nullptr, &flag});
  }
}

// Executes one instruction of a random pipe; false if no pipe has one that may run.
bool Machine::step() {
  int ready[kPipes], count = 0;
  for (int pipe = 0; pipe < kPipes; ++pipe) {
    if (!queue_[pipe].empty() &&
        !(queue_[pipe].front().kind == Instruction::kWait && queue_[pipe].front().flag->raised == 0)) {
      ready[count++] = pipe;
    }
  }
  if (count == 0) {
    return false;
  }
  auto& queue = queue_[ready[random_() % count]];
  size_t free = 0;  // instructions before the first that orders others
  while (free < queue.size() && free < 8 && queue[free].kind == Instruction::kRun) {
    ++free;
  }
  const size_t pick = free > 1 ? random_() % free : 0;
  const Instruction instruction = std::move(queue[pick]);
  queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(pick));
  switch (instruction.kind) {
    case Instruction::kRun: instruction.run(); break;
    case Instruction::kSet: ++instruction.flag->raised; break;
    case Instruction::kWait: --instruction.flag->raised; break;
    case Instruction::kBarrier: break;
  }
  return true;
}

void Machine::run_some() {
  while (random_() % 4 != 0 && step()) {
  }
}

void Machine::drain() {
  while (step()) {
  }
  for (int pipe = 0; pipe < kPipes; ++pipe) {
    if (!queue_[pipe].empty()) {
      fault("deadlock: %s waits for a flag that is never raised", name(static_cast<Pipe>(pipe)));
    }
  }
}

}  // namespace emu
