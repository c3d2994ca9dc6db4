# SPDX-License-Identifier: Apache-2.0
"""The device that a recipe names: the one place that asks MindSpore about devices, and what follows from the answer."""

from __future__ import annotations

import os

import mindspore as ms

import sknet_ops
from sknet.config import Config, ConfigError
from sknet.config.options import DEVICES

# What the processes of a run exchange gradients with.
EXCHANGE = {"Ascend": "hccl", "GPU": "nccl", "CPU": "mccl"}
_BACKEND = {"Ascend": "ascend", "GPU": "cuda"}
_CHOICE = "SKNET_OPS_BACKEND"
# Set for its processes by mpirun: their number on their machine.
_LOCAL_RANK = "OMPI_COMM_WORLD_LOCAL_RANK"


class MindSporeDevices:
    """What MindSpore has to say; tests put another in its place."""

    version = ms.__version__

    def present(self) -> tuple[str, ...]:
        """Devices that the installed package can compute on."""
        # The public is_available() writes a page of warnings for a device that is not there.
        from mindspore._c_expression import MSContext

        context = MSContext.get_instance()
        return tuple(name for name in DEVICES if context.is_pkg_support_device(name))

    def target(self) -> str:
        return ms.get_context("device_target")

    def set(self, target: str, number: int | None) -> None:
        """Compute on the device of that kind and number; None: the first, or the one that msrun means."""
        ms.set_device(target, number)

    def compile_op_by_op(self) -> None:
        """Graph mode at the level that runs operators as they are."""
        ms.set_context(jit_config={"jit_level": "O0"})


devices = MindSporeDevices()


def use_device(config: Config) -> None:
    """Compute on `device_target`: MindSpore, and sknet_ops by the backend for it unless SKNET_OPS_BACKEND names one.

    Call it before anything is computed, and before the processes of a run look for each other.

    Raises:
        ConfigError: MindSpore has no such device, or computes on another already, or the backend cannot run.
    """
    target = config.device_target
    present = devices.present()
    if target not in present:
        raise ConfigError(
            f"device_target: {target} given, but the MindSpore installed, {devices.version}, has no such device, "
            f"only {', '.join(present)}"
        )
    number = _number(config)
    if number is not None or devices.target() != target:
        try:
            devices.set(target, number)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"device_target: MindSpore cannot compute on {target}: {first_line(error)}") from error
    if target in _BACKEND:
        _choose_backend(target)
    if target == "Ascend":
        devices.compile_op_by_op()  # MindSpore runs custom operators there at level O0 or O1 only


def _number(config: Config) -> int | None:
    """The process's device on its machine, where mpirun started it; msrun and MindSpore agree among themselves."""
    if config.distribute and config.device_target != "CPU" and "MS_ROLE" not in os.environ:
        return int(os.environ[_LOCAL_RANK]) if _LOCAL_RANK in os.environ else None
    return None


def _choose_backend(target: str) -> None:
    name = os.environ.get(_CHOICE) or _BACKEND[target]
    found = {backend.name: backend for backend in sknet_ops.available_backends()}
    if name not in found:
        raise ConfigError(f"{_CHOICE}: got {name!r}, expected one of {', '.join(found)}")
    if not found[name].available:
        by = f"which {_CHOICE} names" if os.environ.get(_CHOICE) else "which it needs"
        raise ConfigError(
            f"device_target: {target} given, but backend {name} of sknet_ops, {by}, cannot run here: "
            f"{found[name].reason}"
        )
    os.environ[_CHOICE] = name


def first_line(error: Exception) -> str:
    """What a reader needs of MindSpore's errors."""
    return next((line for line in str(error).splitlines() if line.strip("- ")), type(error).__name__)
