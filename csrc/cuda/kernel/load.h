// SPDX-License-Identifier: Apache-2.0
// A tile of several channels of several sources into shared memory, with zeros outside the map. Loads go out in batches
// before the first is stored, so that many are on their way at once.
#pragma once

#include "cuda/platform.h"

namespace sknet_ops::cuda {

struct Pair {
  float first, second;
};

// Two planes read together: two channels of 16 bits that share a word.
template <class Plane>
struct PairOfPlanes {
  Plane first, second;
  __device__ Pair operator()(int pos) const { return {first(pos), second(pos)}; }
};

template <typename T>
__device__ inline void put_pair(const Pair& v, float* word) {
  T values[2];
  from_float(v.first, &values[0]);
  from_float(v.second, &values[1]);
  memcpy(word, values, sizeof values);
}

struct TileShape {
  int sources, channels, h, w;  // channels: of one source, or pairs of them
  int first_row, first_column;  // of the map, may be outside
  int map_h, map_w;
  int lanes;  // neighbouring threads that share a row
};

// plane(s, c) gives a callable from position in the map to value; put(s, c, position in the tile, value) stores one.
template <int kBatch, class Plane, class Put>
__device__ inline void load_tile(const TileShape& t, Plane plane, Put put) {
  using Value = decltype(plane(0, 0)(0));
  const int step = kThreads / t.lanes, rows = t.sources * t.channels * t.h;
  const int step_y = step % t.h, step_channel = step / t.h;
  for (int x = static_cast<int>(threadIdx.x) % t.lanes; x < t.w; x += t.lanes) {
    const int map_x = t.first_column + x;
    const bool inside_x = map_x >= 0 && map_x < t.map_w;
    int row = static_cast<int>(threadIdx.x) / t.lanes;
    int y = row % t.h, channel = row / t.h;
    while (row < rows) {
      Value value[kBatch];
      int at_y[kBatch], at_source[kBatch], at_channel[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        at_y[b] = y, at_source[b] = 0, at_channel[b] = channel;
        while (at_channel[b] >= t.channels && at_source[b] + 1 < t.sources) {  // cheaper than to divide
          at_channel[b] -= t.channels;
          ++at_source[b];
        }
        const int map_y = t.first_row + y;
        const bool inside = inside_x && map_y >= 0 && map_y < t.map_h && row + b * step < rows;
        value[b] = Value{};
        if (inside) value[b] = plane(at_source[b], at_channel[b])(map_y * t.map_w + map_x);
        y += step_y, channel += step_channel;
        if (y >= t.h) y -= t.h, ++channel;
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (row + b * step >= rows) break;
        put(at_source[b], at_channel[b], at_y[b] * t.w + x, value[b]);
      }
      row += kBatch * step;
    }
  }
}

}  // namespace sknet_ops::cuda
