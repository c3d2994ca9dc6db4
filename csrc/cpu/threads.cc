// SPDX-License-Identifier: Apache-2.0
#include "cpu/threads.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "sknet_ops/ops.h"

namespace sknet_ops::cpu {
namespace {

constexpr int kMaxThreads = 256;
// How long a worker looks for the next tasks before it sleeps. Between the ops of a network MindSpore may run others,
// on all cores, which a spinning worker would slow; in inference there are hardly any, and a wake-up costs more than
// most gaps last. (Other pools spin for 1 ms, or 200 ms, whatever they run.)
constexpr std::chrono::microseconds kSpin{100}, kLongSpin{1000};
constexpr int kPauses = 64;            // between two looks at the clock
constexpr int kLooksForOthers = 4000;  // of a caller whose workers are not done, before it yields

std::atomic<bool> g_ignore_environment{false};

// The cgroup's CPU limit in whole CPUs, rounded up; 0 if there is none.
int cgroup_cpus() {
  long long quota = -1, period = -1;
  if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    if (std::fscanf(f, "%lld %lld", &quota, &period) != 2) quota = -1;  // "max 100000": no limit
    std::fclose(f);
  } else if (FILE* q = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r")) {
    if (std::fscanf(q, "%lld", &quota) != 1) quota = -1;
    std::fclose(q);
    if (FILE* p = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r")) {
      if (std::fscanf(p, "%lld", &period) != 1) period = -1;
      std::fclose(p);
    }
  }
  return quota > 0 && period > 0 ? static_cast<int>((quota + period - 1) / period) : 0;
}

int automatic_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
  if (n < 1) n = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  static const int limit = cgroup_cpus();
  if (limit > 0 && limit < n) n = limit;
  if (const char* env = g_ignore_environment.load() ? nullptr : std::getenv("OMP_NUM_THREADS")) {
    const int asked = std::atoi(env);  // "4,2" means four at the outer level
    if (asked >= 1 && asked < n) n = asked;
  }
  return n < 1 ? 1 : n > kMaxThreads ? kMaxThreads : n;
}

// A worker's tasks: neighbours in memory, mostly, and the same ones from op to op where the shapes are the same. In a
// cache line of its own: tasks may take less time than a line takes from core to core.
struct alignas(64) Share {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

// One spell of spinning.
class Spin {
 public:
  explicit Spin(std::chrono::microseconds length) : length_(length) {}

  bool goes_on() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    if (++pauses_ % kPauses != 0) return true;
    const auto now = std::chrono::steady_clock::now();
    if (pauses_ == kPauses) end_ = now + length_;
    return now < end_;
  }

 private:
  const std::chrono::microseconds length_;
  int64_t pauses_ = 0;
  std::chrono::steady_clock::time_point end_;
};

struct Pool {
  std::mutex op;    // one op at a time
  std::mutex lock;  // guards sleeping and starting
  std::condition_variable wake;
  std::atomic<uint64_t> generation{0};
  Share shares[kMaxThreads];
  std::atomic<int> busy{0};  // workers that have not finished the current generation
  std::atomic<int> sleeping{0};
  std::atomic<int> wanted{1};       // workers in the current op, the caller included
  std::atomic<bool> linger{false};  // the current op's wish
  TaskFn fn = nullptr;
  void* context = nullptr;
  int started = 1;

  void hand_out(int64_t tasks, int workers) {
    for (int w = 0; w < workers; ++w) {
      shares[w].next.store(tasks * w / workers, std::memory_order_relaxed);
      shares[w].end = tasks * (w + 1) / workers;
    }
  }

  // The worker's own share, then what is left of the others'.
  void drain(int worker, int workers) {
    for (int i = 0; i < workers; ++i) {
      Share& share = shares[(worker + i) % workers];
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const int64_t t = share.next.fetch_add(1, std::memory_order_relaxed);
        if (t < share.end) fn(context, t, worker);
      }
    }
  }

  void work(int worker, uint64_t seen) {
    for (;;) {
      uint64_t now = generation.load(std::memory_order_acquire);
      Spin spin(linger.load(std::memory_order_relaxed) ? kLongSpin : kSpin);
      while (now == seen && spin.goes_on()) now = generation.load(std::memory_order_acquire);
      if (now == seen) {
        std::unique_lock<std::mutex> guard(lock);
        sleeping.fetch_add(1);
        wake.wait(guard, [&] { return generation.load(std::memory_order_acquire) != seen; });
        sleeping.fetch_sub(1);
        now = generation.load(std::memory_order_acquire);
      }
      seen = now;
      // Every started worker answers every generation, so that none can meet the next one's tasks late.
      const int workers = wanted.load(std::memory_order_relaxed);
      if (worker < workers) drain(worker, workers);
      busy.fetch_sub(1, std::memory_order_release);
    }
  }

  void start(int count) {
    while (started < count) {
      std::thread([this, id = started, seen = generation.load()] { work(id, seen); }).detach();
      ++started;
    }
  }
};

std::atomic<Pool*> g_pool{nullptr};
std::atomic<int> g_override{0};

// A forked child has none of the threads: it gets a pool of its own, and the old one is left alone.
void forget_pool() { g_pool.store(new Pool); }

Pool& pool() {
  static const bool once = [] {
    g_pool.store(new Pool);
    pthread_atfork(nullptr, nullptr, forget_pool);
    return true;
  }();
  (void)once;
  return *g_pool.load();
}

}  // namespace

int num_threads() {
  const int n = g_override.load();
  return n > 0 ? n : automatic_threads();
}

void set_num_threads(int threads) { g_override.store(threads < 0 ? 0 : threads > kMaxThreads ? kMaxThreads : threads); }

void ignore_omp_num_threads(bool ignore) { g_ignore_environment.store(ignore); }

int workers() { return pool().wanted.load(std::memory_order_relaxed); }

OpScope::OpScope(bool linger) {
  Pool& p = pool();
  p.op.lock();
  p.linger.store(linger, std::memory_order_relaxed);
  p.wanted.store(num_threads(), std::memory_order_relaxed);
}

OpScope::~OpScope() { pool().op.unlock(); }

void run_tasks(int64_t tasks, TaskFn fn, void* context) {
  if (tasks <= 0) return;
  Pool& p = pool();
  const int wanted = p.wanted.load(std::memory_order_relaxed);
  if (wanted == 1 || tasks == 1) {
    for (int64_t t = 0; t < tasks; ++t) fn(context, t, 0);
    return;
  }
  p.start(wanted);
  p.fn = fn;
  p.context = context;
  p.hand_out(tasks, wanted);
  p.busy.store(p.started - 1, std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> guard(p.lock);
    p.generation.fetch_add(1, std::memory_order_release);
  }
  if (p.sleeping.load() > 0) p.wake.notify_all();
  p.drain(0, wanted);
  for (int i = 0; p.busy.load(std::memory_order_acquire) > 0; ++i) {
    if (i >= kLooksForOthers) sched_yield();  // a preempted worker needs the core more than we do
  }
}

}  // namespace sknet_ops::cpu
