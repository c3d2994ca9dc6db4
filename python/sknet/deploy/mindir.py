# SPDX-License-Identifier: Apache-2.0
"""MindIR, MindSpore's own exported form, with the operators of sknet_ops in it.

The file names the library of the operators by its full path on the machine that exported. Loading puts in the path that
it has here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import mindspore as ms
from mindspore import nn

import sknet_ops

_LIBRARY = b"/libsknet_ops.so"


def export_mindir(net: nn.Cell, size: int, path: Path) -> None:
    """Write `net` (in inference mode) for inputs (n, 3, size, size) of any n."""
    ms.set_context(mode=ms.GRAPH_MODE)
    example = ms.Tensor(shape=[None, 3, size, size], dtype=ms.float32)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        ms.export(net, example, file_name=str(Path(folder, "net")), file_format="MINDIR")
        written = Path(folder, "net.mindir")
        if not written.is_file():
            raise ValueError(f"{path}: MindSpore wrote this network in several files, which this does not handle")
        written.chmod(0o644)
        written.replace(path)


def load_mindir(path: Path) -> nn.Cell:
    """The network of a MindIR file as a cell.

    Raises:
        ValueError: not a MindIR file, or a damaged one.
    """
    from mindspore.train.mind_ir_pb2 import ModelProto

    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        model = ModelProto()
        model.ParseFromString(path.read_bytes())
        if not _relocate(model, Path(sknet_ops.__file__).parent / "lib" / "libsknet_ops.so"):
            return nn.GraphCell(ms.load(str(path)))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "net.mindir")
            copy.write_bytes(model.SerializeToString())
            return nn.GraphCell(ms.load(str(copy)))
    except Exception as error:  # whatever the parsers meet
        raise ValueError(f"{path}: not a readable MindIR file ({(str(error).splitlines() or [''])[0]})") from error


def _relocate(model, library: Path) -> bool:
    """Let all operators of ours come from `library`; whether any did not."""
    changed = False
    nodes = [node for graph in (model.graph, *model.functions) for node in graph.node]
    for attribute in (a for owner in (*nodes, *model.primitives) for a in owner.attribute):
        folder, found, op = attribute.s.partition(_LIBRARY + b":")
        if attribute.name == "func_name" and found and folder + _LIBRARY != str(library).encode():
            attribute.s = f"{library}:".encode() + op
            changed = True
    return changed
