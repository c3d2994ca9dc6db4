# SPDX-License-Identifier: Apache-2.0
"""What two lines are worth: MindCV's four SKNets before and after ``sknet_ops.fuse``, and after ``freeze`` besides.

    python -m benchmarks.fuse_mindcv [--models skresnet18 ...] [--batch 1] [--rounds 5] [--step] [--no-as-it-comes]

A process for each, with its own MindSpore: as it comes, with ONEDNN_MAX_CPU_ISA=AVX2, fused, and (forward) fused and
frozen. They take turns, and only one computes at a time. Prints the median of the rounds and checks that the logits
agree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import median

from benchmarks.harness.contestants import ALLOCATOR

OURS = ("fused", "frozen")  # frozen: and fused
MODELS = ("skresnet18", "skresnet34", "skresnet50", "skresnext50_32x4d")
WORKER = """
import sys, time
import mindspore as ms, numpy as np
from mindspore import Tensor, nn
import mindcv
name, batch, kind, step = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "1"
ms.set_context(mode=ms.GRAPH_MODE)
ms.set_seed(1)
net = mindcv.create_model(name)
rng = np.random.default_rng(0)
for param in net.get_parameters():  # the same weights in every process
    shape = param.shape
    if param.name.endswith("moving_variance") or param.name.endswith("gamma"):
        value = rng.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        value = rng.standard_normal(shape) * (2.0 / np.prod(shape[1:])) ** 0.5
    else:
        value = 0.1 * rng.standard_normal(shape)
    param.set_data(Tensor(value.astype(np.float32)))
if kind in ("fused", "frozen"):
    import sknet_ops
    sknet_ops.fuse(net)
x = Tensor(rng.standard_normal((batch, 3, 224, 224)).astype(np.float32))
if step:
    net.set_train(True)
    labels = Tensor((np.arange(batch) % 1000).astype(np.int32))
    loss = nn.CrossEntropyLoss()
    train = nn.TrainOneStepCell(nn.WithLossCell(net, loss), nn.Momentum(net.trainable_params(), 0.0, 0.9))
    train.set_train(True)
    run = lambda: train(x, labels).asnumpy()
else:
    net.set_train(False)
    if kind == "frozen":
        sknet_ops.freeze(net, constant=True)
    run = lambda: net(x).asnumpy()
result = run()
np.save(sys.argv[5], result)
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    run()
    print(time.perf_counter() - start, flush=True)
"""


def _start(name: str, batch: int, kind: str, step: bool, result: str) -> subprocess.Popen:
    environment = {**os.environ, **ALLOCATOR}
    environment.pop("ONEDNN_MAX_CPU_ISA", None)
    if kind != "as it comes":
        environment["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    arguments = [name, str(batch), kind, "1" if step else "0", result]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _await_ready(worker: subprocess.Popen, what: str) -> None:
    for line in worker.stdout:
        if line.strip() == "ready":
            return
    raise SystemExit(f"{what}: the process ended with {worker.wait()} before it was ready")


def _time(worker: subprocess.Popen) -> float:
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stdout:
        try:
            return float(line)
        except ValueError:  # MindSpore prints warnings
            continue
    raise SystemExit(f"a process ended with {worker.wait()} while it was measured")


def measure(name: str, batch: int, rounds: int, step: bool, kinds: list[str], folder: str) -> dict[str, float]:
    """Median milliseconds by kind."""
    import numpy as np

    workers = {}
    for kind in kinds:  # one after another: each start compiles
        workers[kind] = _start(name, batch, kind, step, os.path.join(folder, f"{kind}.npy"))
        _await_ready(workers[kind], f"{name}, {kind}")
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            times[kind].append(_time(workers[kind]))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    logits = {kind: np.load(os.path.join(folder, f"{kind}.npy")) for kind in kinds}
    for kind in OURS:
        if kind in logits:
            error = float(np.abs(logits[kind] - logits["capped"]).max() / np.abs(logits["capped"]).max())
            if not error < 1e-4:
                raise SystemExit(f"{name}, {kind}: relative difference {error:.2g}, expected less than 1e-4")
    return {kind: 1e3 * median(values) for kind, values in times.items()}


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step", action="store_true", help="a training step instead of a forward pass")
    parser.add_argument("--no-as-it-comes", action="store_true", help="leave out MindSpore without the cap")
    args = parser.parse_args()
    kinds = [] if args.no_as_it_comes else ["as it comes"]
    kinds += ["capped", "fused"] if args.step else ["capped", *OURS]
    what = "training step" if args.step else "forward"
    print(f"| {what}, batch {args.batch}, ms | " + " | ".join(kinds) + f" | capped / {kinds[-1]} |")
    print("|---" * (len(kinds) + 2) + "|")
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            times = measure(name, args.batch, args.rounds, args.step, kinds, folder)
        row = " | ".join(f"{times[kind]:.0f}" for kind in kinds)
        print(f"| {name} | {row} | {times['capped'] / times[kinds[-1]]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
