# SPDX-License-Identifier: Apache-2.0
"""Data parallel training: which of how many processes this is."""

from __future__ import annotations

import os
from dataclasses import dataclass

import mindspore as ms
from mindspore import Tensor, ops

from sknet.config import Config, ConfigError
from sknet.engine.device import EXCHANGE, first_line

# Set for its processes by msrun, and by mpirun.
_MSRUN, _MPIRUN = "MS_ROLE", "OMPI_COMM_WORLD_SIZE"
# How long processes wait for each other, in seconds: the first validates and saves while the others wait. MindSpore's
# own exchange on CPU would give up after 15 seconds, HCCL after half an hour; NCCL does not.
_PATIENCE = {"CPU": "MS_RECEIVE_MSG_TIMEOUT", "Ascend": "HCCL_EXEC_TIMEOUT"}
_HOUR = "3600"


class GroupError(RuntimeError):
    """The processes of a run do not find each other, or do not do the same."""


@dataclass(frozen=True)
class Group:
    """The processes of a run. Each takes its share of every step's images; the first alone validates and writes."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    @classmethod
    def join(cls, config: Config) -> Group:
        """Find the others, if the recipe says `distribute`, by what MindSpore has for the device.

        Raises:
            ConfigError: this process was not started as one of several.
            GroupError: the others cannot be found.
        """
        if not config.distribute:
            return cls()
        if not config.drop_remainder:
            raise ConfigError(
                "drop_remainder: expected True with distribute True: each process needs images; got False"
            )
        # MindSpore's exchange on CPU does not know mpirun.
        if _MSRUN not in os.environ and (_MPIRUN not in os.environ or config.device_target == "CPU"):
            by = "msrun" if config.device_target == "CPU" else "msrun or mpirun"
            raise ConfigError(
                f"distribute: True given, but this process was not started by {by}. Give --distribute False, or start "
                "the processes: msrun --worker_num=2 --local_worker_num=2 --join=True train.py ..."
            )
        from mindspore import communication

        if config.device_target in _PATIENCE:
            os.environ.setdefault(_PATIENCE[config.device_target], _HOUR)
        ms.set_context(mode=config.mode)
        try:
            communication.init(EXCHANGE[config.device_target])
        except RuntimeError as error:
            raise GroupError(f"distribute: the processes do not find each other: {first_line(error)}") from error
        group = cls(communication.get_rank(), communication.get_group_size())
        ms.set_auto_parallel_context(
            parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=group.size
        )
        return group

    def check_same(self, value: int, what: str) -> None:
        """GroupError, in at least one process, unless all have the same value."""
        if self.size == 1:
            return
        total = int(ops.AllReduce()(Tensor([float(value)], ms.float32)).asnumpy()[0])
        if total != value * self.size:
            raise GroupError(f"{what}: {value} in process {self.rank}, another in others; do all see the same folder?")


def broken(error: RuntimeError) -> GroupError:
    """What a step's error means where it may be the exchange with other processes that failed."""
    return GroupError(f"the exchange with the other processes failed, one may have ended ({first_line(error)})")
