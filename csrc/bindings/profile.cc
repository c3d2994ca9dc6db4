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
  std::size_t shapes;  // where in g_dims its shapes begin: number of buffers, then for each its rank and dimensions
  double seconds;
};

constexpr std::size_t kMaxNotes = 1 << 20;  // somebody may forget to stop

std::mutex g_lock;
std::vector<Note> g_notes;
std::vector<int64_t> g_dims;
std::string g_text;

// "8,64,56,56;64,32,3,3;...": the inputs, then the outputs.
void write_shapes(std::size_t at, std::string* text) {
  text->clear();
  const int64_t buffers = g_dims[at++];
  for (int64_t i = 0; i < buffers; ++i) {
    if (i > 0) *text += ';';
    const int64_t ndim = g_dims[at++];
    for (int64_t d = 0; d < ndim; ++d) *text += (d > 0 ? "," : "") + std::to_string(g_dims[at++]);
  }
}

}  // namespace

void Timer::note(std::chrono::steady_clock::time_point end) const noexcept {
  const double seconds = std::chrono::duration<double>(end - start_).count();
  // No text yet: a network's time includes that of its notes.
  const std::lock_guard<std::mutex> guard(g_lock);
  if (g_notes.size() >= kMaxNotes) return;
  const std::size_t begin = g_dims.size();
  try {
    g_dims.push_back(buffers_);
    for (int i = 0; i < buffers_; ++i) {
      g_dims.push_back(ndims_[i]);
      g_dims.insert(g_dims.end(), shapes_[i], shapes_[i] + ndims_[i]);
    }
    g_notes.push_back({op_, begin, seconds});
  } catch (const std::bad_alloc&) {
    g_dims.resize(begin);  // one note less: the op itself has done its work
  }
}

}  // namespace sknet_ops::profile

extern "C" {

// Forgets all notes and begins to take new ones.
SKNET_OPS_API void sknet_ops_profile_start() {
  using namespace sknet_ops::profile;
  const std::lock_guard<std::mutex> guard(g_lock);
  g_notes.clear();
  g_dims.clear();
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

// Seconds of note `index`, its op and shapes by pointers that live until the next question or start; -1
// past the last.
SKNET_OPS_API double sknet_ops_profile_note(int index, const char** op, const char** shapes) {
  using namespace sknet_ops::profile;
  const std::lock_guard<std::mutex> guard(g_lock);
  if (index < 0 || index >= static_cast<int>(g_notes.size())) return -1;
  const Note& note = g_notes[static_cast<std::size_t>(index)];
  *op = note.op;
  write_shapes(note.shapes, &g_text);
  *shapes = g_text.c_str();
  return note.seconds;
}

}  // extern "C"
