# SPDX-License-Identifier: Apache-2.0
"""Our layers and networks in MindSpore: what a user gets."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

from benchmarks.harness.cases import Case


def why_not() -> str | None:
    try:
        import mindspore  # noqa: F401

        import sknet_ops
    except ImportError as error:
        return str(error)
    return next(b.reason for b in sknet_ops.available_backends() if b.name == "cpu")


def versions() -> dict[str, str]:
    import sknet_ops

    isa = sknet_ops.active_isa()
    return {"mindspore": importlib.metadata.version("mindspore"), "isa": isa, "threads": str(sknet_ops.num_threads())}


def build(case: Case) -> Any:
    """In inference frozen, as other runtimes pack constant weights once when they compile a network."""
    import sknet_ops

    net = _layer(case)
    return sknet_ops.freeze(net, constant=True) if case.mode == "forward" else net


def _layer(case: Case) -> Any:
    import sknet
    from mindspore import nn

    from sknet_ops.layers import ConvBnAct, SelectiveKernel

    s = case.shape
    if case.kind == "network":
        return sknet.create_model(s["name"])
    if case.kind == "conv_bn_act":
        size = {"pad_mode": "pad", "padding": s["kernel"] // 2}
        conv = nn.Conv2d(s["c_in"], s["c_out"], s["kernel"], s["stride"], **size)
        return ConvBnAct(conv, nn.BatchNorm2d(s["c_out"]), nn.ReLU if s["relu"] else None)
    return SelectiveKernel(
        s["c_in"],
        s["c_out"],
        stride=s["stride"],
        groups=s["groups"],
        rd_channels=s["c_reduced"],
        split_input=s["split_input"],
    )


def variants(case: Case, threads: int) -> dict[str, Callable]:
    from benchmarks.peers import mindspore_common

    return mindspore_common.variants(case, build)


def to_numpy(result: Any) -> Any:
    from benchmarks.peers import mindspore_common

    return mindspore_common.to_numpy(result)


def profile(case: dict[str, Any], runs: int) -> dict[str, Any]:
    """sknet_ops.profile of a network's forward pass, or of its training step, as plain data."""
    import mindspore as ms

    import sknet_ops
    from benchmarks.peers import mindspore_common

    parsed = Case.from_json(case)
    mindspore_common.enter(ms.GRAPH_MODE)
    net, inputs = build(parsed), [mindspore_common.random_tensor(0, parsed.input_shape)]
    net.set_train(parsed.mode == "step")
    if parsed.mode == "step":
        net = mindspore_common.training_step(net)
        inputs.append(ms.Tensor(list(range(parsed.batch)), ms.int32))
    found = sknet_ops.profile(net, *inputs, runs=runs)
    fields = ("op", "about", "calls", "seconds", "flops", "bytes", "limit")
    ops = [{name: getattr(op, name) for name in fields} for op in found.ops]
    return {"seconds": found.seconds, "outside": found.outside, "ops": ops}


def roofline() -> dict[str, float]:
    """The machine's limits with the threads of this process: FLOP/s and bytes/s."""
    from sknet_ops.profiling import roofline

    return vars(roofline())


def memory(case: dict[str, Any], layers: int) -> dict[str, Any]:
    from benchmarks.peers import mindspore_common

    return mindspore_common.memory(build, Case.from_json(case), layers)
