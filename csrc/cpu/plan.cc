// SPDX-License-Identifier: Apache-2.0
#include "cpu/plan.h"

#include <algorithm>
#include <vector>

namespace sknet_ops::cpu {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

// One direction of one tap: reads source index  o * step + shift  for output index o in [0, outputs).
struct AxisTap {
  int64_t index, shift;
};

// Does the tap touch the source [0, size) at all? Taps that lie in the padding for every output are left out: on a
// map smaller than the dilation most of them do.
bool touches(int64_t shift, int64_t step, int64_t outputs, int64_t size) {
  const int64_t first = std::max<int64_t>(0, ceil_div(-shift, step));
  return first < outputs && first * step + shift < size;
}

struct Span {  // of source indices that are read, padding included
  int64_t low = 0, high = 0;
  void add(int64_t shift, int64_t step, int64_t outputs) {
    low = std::max(low, -shift);
    high = std::max(high, (outputs - 1) * step + shift + 1);
  }
};

void make_layout(int64_t h, int64_t w, int64_t stride, const Span& rows, const Span& cols, int64_t w_out,
                 PlaneLayout* l) {
  l->h = h, l->w = w, l->stride = stride;
  l->low_h = rows.low, l->low_w = cols.low;
  l->used_h = std::min(h, rows.high), l->used_w = std::min(w, cols.high);
  l->rows = ceil_div(rows.low + rows.high, stride);
  if (stride == 1) {
    // The right padding of a row is the left padding of the next one.
    const int64_t right = std::max<int64_t>(0, cols.high - w);
    l->pitch = cols.low + l->used_w + std::max<int64_t>(0, right - cols.low);
  } else {
    l->pitch = ceil_div(cols.low + cols.high, stride);
  }
  l->pitch = std::max(l->pitch, w_out);  // else output rows would overlap
}

void finish_layout(int64_t max_offset, int64_t positions, PlaneLayout* l) {
  const int64_t phases = l->stride * l->stride;
  l->phase = std::max(l->rows * l->pitch, phases == 1 ? max_offset + positions : 0);
  l->channel = std::max(phases * l->phase, max_offset + positions) + kVectorSlack;
  l->channel = (l->channel + 15) / 16 * 16;
  // A power-of-two distance between channels would put them all into one cache set.
  if (l->channel % 1024 == 0) l->channel += 16;
}

void fill_taps(const std::vector<AxisTap>& rows, const std::vector<AxisTap>& cols, int64_t kernel, int64_t h_out,
               int64_t w_out, const PlaneLayout& l, TapSet* set) {
  set->count = static_cast<int64_t>(rows.size() * cols.size());
  delete[] set->offset;
  delete[] set->index;
  set->offset = new int64_t[std::max<int64_t>(1, set->count)];
  set->index = new int64_t[std::max<int64_t>(1, set->count)];
  set->h_out = h_out, set->w_out = w_out;
  int64_t t = 0;
  for (const AxisTap& r : rows) {
    for (const AxisTap& c : cols) {
      const int64_t row = l.low_h + r.shift, col = l.low_w + c.shift;
      set->offset[t] =
          ((row % l.stride) * l.stride + col % l.stride) * l.phase + row / l.stride * l.pitch + col / l.stride;
      set->index[t] = r.index * kernel + c.index;
      ++t;
    }
  }
}

int64_t max_offset(const std::vector<AxisTap>& rows, const std::vector<AxisTap>& cols, const PlaneLayout& l) {
  if (rows.empty() || cols.empty()) return 0;
  int64_t row = 0, col = 0;
  for (const AxisTap& r : rows) row = std::max(row, l.low_h + r.shift);
  for (const AxisTap& c : cols) col = std::max(col, l.low_w + c.shift);
  const int64_t phases = l.stride * l.stride;
  const int64_t within = row / l.stride * l.pitch + col / l.stride;
  return (phases - 1) * std::max(l.phase, l.rows * l.pitch) + within;
}

}  // namespace

TapSet::~TapSet() {
  delete[] offset;
  delete[] index;
}

BackwardPlan::~BackwardPlan() { delete[] phase; }

void plan_forward(const ConvShape* branch, int branches, bool phases, ForwardPlan* plan) {
  const ConvShape& first = branch[0];
  std::vector<AxisTap> rows[kMaxBranches], cols[kMaxBranches];
  Span row_span, col_span;
  for (int m = 0; m < branches; ++m) {
    const ConvShape& c = branch[m];
    for (int64_t k = 0; k < c.kernel; ++k) {
      const int64_t shift = k * c.dilation - c.padding;
      if (touches(shift, c.stride, c.h_out, c.h)) {
        rows[m].push_back({k, shift});
        row_span.add(shift, c.stride, c.h_out);
      }
      if (touches(shift, c.stride, c.w_out, c.w)) {
        cols[m].push_back({k, shift});
        col_span.add(shift, c.stride, c.w_out);
      }
    }
  }
  PlaneLayout& l = plan->layout;
  make_layout(first.h, first.w, phases ? first.stride : 1, row_span, col_span, first.w_out, &l);
  l.step = phases ? 1 : first.stride;
  const int64_t positions = ((first.h_out - 1) * l.pitch + first.w_out - 1) * l.step + 1;
  int64_t furthest = 0;
  l.phase = l.rows * l.pitch;
  for (int m = 0; m < branches; ++m) furthest = std::max(furthest, max_offset(rows[m], cols[m], l));
  finish_layout(furthest, positions, &l);
  l.direct = l.stride == 1 && l.low_h == 0 && l.low_w == 0 && furthest == 0 && row_span.high <= l.h &&
             col_span.high <= l.w && (l.step > 1 || (l.used_h == l.h && l.used_w == l.w));
  if (l.direct) l.pitch = l.w;
  for (int m = 0; m < branches; ++m) {
    fill_taps(rows[m], cols[m], branch[m].kernel, first.h_out, first.w_out, l, &plan->taps[m]);
  }
}

void plan_backward(const ConvShape& c, BackwardPlan* plan) {
  const int64_t s = c.stride;
  plan->stride = s;
  plan->phase = new TapSet[s * s];
  std::vector<std::vector<AxisTap>> rows(s), cols(s);
  std::vector<int64_t> h_count(s), w_count(s);
  Span row_span, col_span;
  for (int64_t r = 0; r < s; ++r) {
    // dx index i = a * s + r gets weight k from output index a + shift, where r + padding - k * dilation = shift * s
    h_count[r] = std::max<int64_t>(0, ceil_div(c.h - r, s));
    w_count[r] = std::max<int64_t>(0, ceil_div(c.w - r, s));
    for (int64_t k = 0; k < c.kernel; ++k) {
      const int64_t distance = r + c.padding - k * c.dilation;
      if (distance % s != 0) continue;
      const int64_t shift = distance / s;
      if (touches(shift, 1, h_count[r], c.h_out)) {
        rows[r].push_back({k, shift});
        row_span.add(shift, 1, h_count[r]);
      }
      if (touches(shift, 1, w_count[r], c.w_out)) {
        cols[r].push_back({k, shift});
        col_span.add(shift, 1, w_count[r]);
      }
    }
  }
  PlaneLayout& l = plan->layout;
  make_layout(c.h_out, c.w_out, 1, row_span, col_span, w_count[0], &l);
  l.step = 1;
  l.phase = l.rows * l.pitch;
  int64_t furthest = 0;
  for (int64_t r = 0; r < s; ++r) {
    for (int64_t q = 0; q < s; ++q) furthest = std::max(furthest, max_offset(rows[r], cols[q], l));
  }
  finish_layout(furthest, (h_count[0] > 0 ? (h_count[0] - 1) * l.pitch : 0) + w_count[0], &l);
  l.direct =
      s == 1 && l.low_h == 0 && l.low_w == 0 && l.pitch == l.w && l.used_h == l.h && l.rows == l.h && furthest == 0;
  for (int64_t r = 0; r < s; ++r) {
    for (int64_t q = 0; q < s; ++q) {
      fill_taps(rows[r], cols[q], c.kernel, h_count[r], w_count[q], l, &plan->phase[r * s + q]);
    }
  }
}

}  // namespace sknet_ops::cpu
