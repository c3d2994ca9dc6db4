// SPDX-License-Identifier: Apache-2.0
// One pool of threads for the whole process. One op runs at a time; each worker has a range of its tasks, and takes of
// the others' when it is through.
#pragma once

#include <cstdint>

namespace sknet_ops::cpu {

using TaskFn = void (*)(void* context, int64_t task, int worker);

// Threads that take part in the op that is running now (set by OpScope), the caller included.
int workers();

// Runs fn(context, task, worker) for every task in [0, tasks). The caller is worker 0. fn must not throw.
void run_tasks(int64_t tasks, TaskFn fn, void* context);

// Held by every op from entry to exit: ops of different caller threads run one after another, so that scratch
// memory and the pool have one owner.
class OpScope {
 public:
  // `linger`: the next op is likely to follow at once, so the workers had better not sleep soon.
  explicit OpScope(bool linger = false);
  ~OpScope();
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;
};

}  // namespace sknet_ops::cpu
