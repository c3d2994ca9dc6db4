// SPDX-License-Identifier: Apache-2.0
// Numbers that planner and kernels have to agree on.
#pragma once

namespace sknet_ops::cuda {

inline constexpr int kSimt8Positions = 2, kSimt4Positions = 4, kDirectPositions = 2;  // a thread
inline constexpr int kTensorRows = 4, kTensorColumns = 2;  // matrices of 16 positions, of 8 channels, a warp
inline constexpr int kTensorOut = 8 * kTensorColumns, kTensorPixels = 16 * kTensorRows;
inline constexpr int kTensorPositionPad = 2, kTensorWeightPad = 4;  // words that keep the banks apart
inline constexpr int kTensorJobPad = 4;                             // weight gradient: rows of 16 bytes, banks apart
// Blocks of a weight gradient that a multiprocessor's registers leave room for, by the output channels of a job; a map
// with channels last takes more of them, for what normalises its channels.
constexpr int wgrad_resident(int out_channels, bool last) { return out_channels == 4 && !last ? 3 : 2; }
inline constexpr int kWgradDirectResident = 3;
inline constexpr int kMostAcross = 8;  // threads on neighbouring packs of channels, where channels are last
inline constexpr int kTurnRounds = 4;  // positions a thread in a chunk that is turned

}  // namespace sknet_ops::cuda
