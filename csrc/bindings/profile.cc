// SPDX-License-Identifier: Apache-2.0
// Plain C, for ctypes: start, run, stop, then read the notes one by one.
#include "bindings/profile.h"

#include <cstddef>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "sknet_ops/ops.h"

namespace sknet_ops::profile {

std::atomic<bool> g_enabled{false};

namespace {

struct Note {
  const char* op;
  std::string shapes;  // "8,64,56,56;64,32,3,3;...": the inputs, then the outputs
  double seconds;
};

constexpr std::size_t kMaxNotes = 1 << 20;  // somebody may forget to stop

std::mutex g_lock;
std::vector<Note> g_notes;

}  // namespace

void Timer::note(std::chrono::steady_clock::time_point end) const noexcept {
  const double seconds = std::chrono::duration<double>(end - start_).count();
  try {
    std::string text;
    for (int i = 0; i < buffers_; ++i) {
      if (i > 0) text += ';';
      for (int d = 0; d < ndims_[i]; ++d) text += (d > 0 ? "," : "") + std::to_string(shapes_[i][d]);
    }
    const std::lock_guard<std::mutex> guard(g_lock);
    if (g_notes.size() < kMaxNotes) g_notes.push_back({op_, text, seconds});
  } catch (const std::bad_alloc&) {
    // One note less: the op itself has done its work.
  }
}

}  // namespace sknet_ops::profile

extern "C" {

// Forgets all notes and begins to take new ones.
SKNET_OPS_API void sknet_ops_profile_start() {
  using namespace sknet_ops::profile;
  const std::lock_guard<std::mutex> guard(g_lock);
  g_notes.clear();
  g_enabled.store(true);
}

SKNET_OPS_API void sknet_ops_profile_stop() {
  using namespace sknet_ops::profile;
  g_enabled.store(false);
}

// Number of notes taken so far.
SKNET_OPS_API int sknet_ops_profile_count() {
  using namespace sknet_ops::profile;
  const std::lock_guard<std::mutex> guard(g_lock);
  return static_cast<int>(g_notes.size());
}

// Seconds of note `index`, its op and shapes by pointers that live until the next start; -1 past the last.
SKNET_OPS_API double sknet_ops_profile_note(int index, const char** op, const char** shapes) {
  using namespace sknet_ops::profile;
  const std::lock_guard<std::mutex> guard(g_lock);
  if (index < 0 || index >= static_cast<int>(g_notes.size())) return -1;
  const Note& note = g_notes[static_cast<std::size_t>(index)];
  *op = note.op;
  *shapes = note.shapes.c_str();
  return note.seconds;
}

}  // extern "C"
