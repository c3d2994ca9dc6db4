# SPDX-License-Identifier: Apache-2.0
"""Ascend servers mostly have aarch64 hosts: the native code cross-compiles, and its kernels run under qemu-user."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ascend import emulator

COMPILER = "aarch64-linux-gnu-g++"
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
CSRC = emulator.ROOT / "csrc"

PROGRAM = r"""
#include <cmath>
#include <cstdio>
#include <vector>
#include "sk_tiling.h"
#include "sknet_ops/ops.h"

using namespace sknet_ops;

// One selective-kernel forward pass: the CPU kernels of this processor against the reference.
int main() {
  SelectiveKernelParams p{};
  p.conv = {2, 8, 9, 7, 8, 2, 1, 9, 7, 2, false, {3, 3}, {1, 2}, {1, 2}, {false, true, 1e-5f, 0.1f}};
  p.c_reduced = 4;
  p.attn_norm = {false, true, 1e-5f, 0.1f};
  std::vector<std::vector<float>> kept;
  unsigned state = 1;
  const auto fill = [&](size_t count, float least) {
    kept.emplace_back(count);
    for (float& v : kept.back()) {
      state = state * 1664525u + 1013904223u;
      v = least + (state >> 8) * 0x1p-24f;
    }
    return kept.back().data();
  };
  kept.reserve(64);
  SelectiveKernelForward<float> t{};
  t.x = fill(2 * 8 * 63, -0.5f);
  for (int m = 0; m < 2; ++m) {
    t.weight[m] = fill(8 * 4 * 9, -0.5f);
    t.norm[m] = {fill(8, 0.5f), fill(8, -0.5f), fill(8, -0.5f), fill(8, 0.5f)};
  }
  t.fc_reduce = fill(4 * 8, -0.5f);
  t.attn_norm = {fill(4, 0.5f), fill(4, -0.5f), fill(4, -0.5f), fill(4, 0.5f)};
  t.fc_select = fill(16 * 4, -0.5f);
  std::vector<float> y(2 * 8 * 63), attention(32), y_cpu(y), attention_cpu(attention);
  t.y = y.data(), t.attention = attention.data();
  reference::table<float>().selective_kernel(p, t);
  double worst = 0;
  int ran = 0;
  for (const cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kNeon}) {
    if (cpu::why_not(isa)) {
      continue;
    }
    t.y = y_cpu.data(), t.attention = attention_cpu.data();
    cpu::table(isa).selective_kernel(p, t);
    for (size_t i = 0; i < y.size(); ++i) {
      worst = std::fmax(worst, std::fabs(y[i] - y_cpu[i]));
    }
    ++ran;
  }
  const auto chip = ascend::platform("Ascend910B1");
  SkConvParams conv = p.conv;
  conv.c_in = conv.c_out = 32;
  const auto tiled = ascend::tile_conv(chip, conv, ascend::Dtype::kHalf);
  std::printf("instruction sets %d worst %g blocks %d\n", ran, worst, tiled.blocks);
  return ran == 0 || !(worst < 1e-4) || tiled.blocks < 1;
}
"""


def test_native_code_runs_on_aarch64(tmp_path: Path) -> None:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no {COMPILER} (Debian: g++-aarch64-linux-gnu)")
    sources = [p for folder in ("common", "reference", "cpu") for p in sorted((CSRC / folder).glob("*.cc"))]
    sources = [p for p in sources if p.stem not in ("kernels_avx2", "kernels_avx512")]
    sources += sorted((CSRC / "ascend" / "op_host").glob("*.cc"))
    main = tmp_path / "main.cc"
    main.write_text(PROGRAM)
    program = tmp_path / "native"
    command = [COMPILER, "-std=c++17", "-O1", "-static", "-ffp-contract=off", f"-I{CSRC}", f"-I{CSRC / 'include'}",
               *(f"-I{CSRC / 'ascend' / folder}" for folder in ("op_host", "op_kernel"))]  # fmt: skip
    subprocess.run([*command, *map(str, sources), str(main), "-o", str(program), "-pthread"], check=True)
    runner = next((name for name in EMULATORS if shutil.which(name)), None)
    if runner is None:
        pytest.skip(f"compiled; not run: none of {', '.join(EMULATORS)} (Debian: qemu-user-static)")
    done = subprocess.run([runner, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "instruction sets 2" in done.stdout
