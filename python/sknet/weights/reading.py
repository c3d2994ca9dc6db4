# SPDX-License-Identifier: Apache-2.0
"""Weight files as a dict of NumPy arrays; a damaged file is an error that names it."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sknet.weights.download import fetch, is_url

# What MindSpore's ModelCheckpoint writes beside the parameters.
_BOOKKEEPING = ("epoch_num", "step_num", "global_step")

WeightSource = str | os.PathLike | Mapping[str, np.ndarray]


def _read_ckpt(path: Path) -> dict[str, np.ndarray]:
    import mindspore as ms

    try:
        # Files without a checksum pass; those that have one (all of ours) are checked against it.
        params = ms.load_checkpoint(str(path), crc_check=True)
    except Exception as error:
        raise ValueError(
            f"{path}: not a readable MindSpore checkpoint; it is damaged, cut short or of another "
            f"format ({str(error).splitlines()[0]})"
        ) from error
    return {name: value.asnumpy() for name, value in params.items() if name not in _BOOKKEEPING}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a readable safetensors file of float arrays; it is damaged, cut short or of "
            f"another format ({error})"
        ) from error


_READERS = {".ckpt": _read_ckpt, ".safetensors": _read_safetensors}


def local_file(source: str | os.PathLike) -> Path:
    """The file that a path or an http(s) address names; the latter is fetched into the cache. DownloadError."""
    return fetch(source) if is_url(source) else Path(source)


def read_weights(source: WeightSource) -> dict[str, np.ndarray]:
    """Arrays by name, under the names that the source uses.

    Args:
        source: path or http(s) address of a .ckpt (MindSpore) or .safetensors file, or a dict name -> array.

    Raises:
        DownloadError: an address that cannot be fetched.
        FileNotFoundError: no such file.
        TypeError: neither a path nor a dict of arrays.
        ValueError: unknown suffix, or a damaged file.
    """
    if isinstance(source, Mapping):
        arrays = {}
        for name, value in source.items():
            if not isinstance(name, str):
                raise TypeError(f"source: expected names of type str, got {type(name).__name__}")
            array = value.asnumpy() if hasattr(value, "asnumpy") else value
            if not isinstance(array, np.ndarray):
                raise TypeError(f"source[{name!r}]: expected a numpy array, got {type(value).__name__}")
            arrays[name] = array
        return arrays
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source: expected a path or a dict name -> numpy array, got {type(source).__name__}")
    path = local_file(source)
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: expected a file that ends in {' or '.join(_READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return _READERS[path.suffix](path)
