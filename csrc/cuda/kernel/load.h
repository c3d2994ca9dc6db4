// SPDX-License-Identifier: Apache-2.0
// A tile of several channels of several sources into shared memory, with zeros outside the map. Loads go out in batches
// before the first is stored, so that many are on their way at once. Two ways, by how the map lies in global memory;
// how the tile lies in shared memory is the caller's, who stores it.
#pragma once

#include "cuda/kernel/pack.h"

namespace sknet_ops::cuda {

struct Pair {
  float first, second;
};

// Two planes read together: two channels of 16 bits that share a word.
template <class Plane>
struct PairOfPlanes {
  Plane first, second;
  struct Raw {
    typename Plane::Raw first, second;
  };
  __device__ Raw raw(int pos) const { return {first.raw(pos), second.raw(pos)}; }
  __device__ Pair value(const Raw& r) const { return {first.value(r.first), second.value(r.second)}; }
};

template <typename T>
__device__ inline void put_pair(const Pair& v, float* word) {
  T values[2];
  from_float(v.first, &values[0]);
  from_float(v.second, &values[1]);
  memcpy(word, values, sizeof values);
}

// Neighbouring channels of one position, as T, into a tile with channels last. `to` is 8-byte aligned if they are more
// than one.
template <typename T, typename V, int kCount>
__device__ inline void put_channels(const Pack<V, kCount>& p, T* to) {
  Pack<T, kCount> stored;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if constexpr (sizeof(T) == 4) {
      stored.v[i] = round_to_tf32(to_float(p.v[i]));
    } else if constexpr (std::is_same_v<V, T>) {
      stored.v[i] = p.v[i];
    } else {
      from_float(p.v[i], &stored.v[i]);
    }
  }
  store_raw<8>(stored, to);
}

// The same into a tile of planes.
template <typename V, int kCount>
__device__ inline void put_planes(const Pack<V, kCount>& p, float* to, int plane) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i * plane] = to_float(p.v[i]);
}

struct TileShape {
  int sources, channels, h, w;  // channels: of one source, or pairs of them
  int first_row, first_column;  // of the map, may be outside
  int map_h, map_w;
  int lanes;  // neighbouring threads that share a row
};

// NCHW: neighbouring threads take neighbouring positions. plane(s, c) gives a plane of source.h or a pair of them;
// put(s, c, position in the tile, value) stores one value. What values are made of besides the maps is fetched when the
// maps' loads are on their way.
template <class Plane, class Put>
__device__ inline void load_tile(const TileShape& t, Plane plane, Put put) {
  constexpr int kBatch = 4;
  using Raw = decltype(plane(0, 0).raw(0));
  using Value = decltype(plane(0, 0).value(Raw{}));
  const int step = kThreads / t.lanes, rows = t.sources * t.channels * t.h;
  const int step_y = step % t.h, step_channel = step / t.h;
  for (int x = static_cast<int>(threadIdx.x) % t.lanes; x < t.w; x += t.lanes) {
    const int map_x = t.first_column + x;
    const bool inside_x = map_x >= 0 && map_x < t.map_w;
    int row = static_cast<int>(threadIdx.x) / t.lanes;
    int y = row % t.h, channel = row / t.h;
    while (row < rows) {
      Raw raw[kBatch];
      int at_y[kBatch], at_source[kBatch], at_channel[kBatch];
      bool inside[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        at_y[b] = y, at_source[b] = 0, at_channel[b] = channel;
        while (at_channel[b] >= t.channels && at_source[b] + 1 < t.sources) {  // cheaper than to divide
          at_channel[b] -= t.channels;
          ++at_source[b];
        }
        const int map_y = t.first_row + y;
        inside[b] = inside_x && map_y >= 0 && map_y < t.map_h && row + b * step < rows;
        raw[b] = Raw{};
        if (inside[b]) raw[b] = plane(at_source[b], at_channel[b]).raw(map_y * t.map_w + map_x);
        y += step_y, channel += step_channel;
        if (y >= t.h) y -= t.h, ++channel;
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (row + b * step >= rows) break;
        const Value value = plane(at_source[b], at_channel[b]).value(raw[b]);
        put(at_source[b], at_channel[b], at_y[b] * t.w + x, inside[b] ? value : Value{});
      }
      row += kBatch * step;
    }
  }
}

// NHWC: neighbouring threads take neighbouring channels, kCount each. A thread stays with its channels while it walks
// over positions, so that what belongs to them is fetched once. source(s, c) gives a callable from position in the map
// to a pack of channels from c on; put(s, c, position in the tile, pack) stores one. t.channels is a multiple of
// kCount.
template <int kBatch, int kCount, class Source, class Put>
__device__ inline void load_tile_last(const TileShape& t, Source source, Put put) {
  using Value = decltype(source(0, 0)(0));
  const int packs = t.channels / kCount, across = min(packs, kThreads), step = kThreads / across;
  const int first = static_cast<int>(threadIdx.x) / across, positions = t.h * t.w;
  if (first >= step) return;  // threads that are left over
  const int step_y = step / t.w, step_x = step % t.w;
  for (int s = 0; s < t.sources; ++s) {
    for (int c = static_cast<int>(threadIdx.x) % across * kCount; c < t.channels; c += across * kCount) {
      const auto take = source(s, c);
      int y = first / t.w, x = first % t.w;
      for (int position = first; position < positions; position += kBatch * step) {
        Value value[kBatch];
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
          const int map_y = t.first_row + y, map_x = t.first_column + x;
          const bool inside = map_y >= 0 && map_y < t.map_h && map_x >= 0 && map_x < t.map_w;
          value[b] = Value{};
          if (inside && position + b * step < positions) value[b] = take(map_y * t.map_w + map_x);
          y += step_y, x += step_x;
          if (x >= t.w) x -= t.w, ++y;
        }
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
          if (position + b * step < positions) put(s, c, position + b * step, value[b]);
        }
      }
    }
  }
}

}  // namespace sknet_ops::cuda
