# SPDX-License-Identifier: Apache-2.0
"""What is decided for a device, with stand-ins for a MindSpore that has it; on Ascend and GPU nothing has run."""

import os
from types import SimpleNamespace

import mindspore as ms
import pytest
from mindspore import communication
from sknet.cli import main
from sknet.config import Config, ConfigError, load_config
from sknet.engine import device
from sknet.engine.device import use_device
from sknet.engine.parallel import Group
from sknet.engine.trainer import Trainer

import sknet_ops

# Set by msrun and mpirun, and by what is tested; each test begins without.
VARIABLES = (
    "MS_ROLE",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "SKNET_OPS_BACKEND",
    "MS_RECEIVE_MSG_TIMEOUT",
    "HCCL_EXEC_TIMEOUT",
)


class FakeDevices:
    """A MindSpore that has some devices and computes on one of them."""

    version = "2.99"

    def __init__(self, present: tuple[str, ...], target: str) -> None:
        self._present, self._target, self.calls, self.error, self.op_by_op = present, target, [], None, False

    def present(self) -> tuple[str, ...]:
        return self._present

    def target(self) -> str:
        return self._target

    def set(self, target: str, number: int | None) -> None:
        self.calls.append((target, number))
        if self.error:
            raise self.error
        self._target = target

    def compile_op_by_op(self) -> None:
        self.op_by_op = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch):
    """fake(present, target, missing=None): with every backend available, or but one with the reason."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test sets goes away again
        monkeypatch.delenv(name)

    def make(present: tuple[str, ...], target: str, missing: dict[str, str] | None = None) -> FakeDevices:
        found = FakeDevices(present, target)
        backends = [
            SimpleNamespace(name=name, available=name not in (missing or {}), reason=(missing or {}).get(name))
            for name in ("cpu", "reference", "ascend", "akg", "cuda")
        ]
        monkeypatch.setattr(device, "devices", found)
        monkeypatch.setattr(sknet_ops, "available_backends", lambda: tuple(backends))
        return found

    return make


def config_of(target: str, **values) -> Config:
    return load_config(None, device_target=target, **values)


@pytest.mark.parametrize(("target", "backend"), [("Ascend", "ascend"), ("GPU", "cuda"), ("CPU", None)])
def test_device_and_backend(target: str, backend: str | None, fake) -> None:
    found = fake(("Ascend", "GPU", "CPU"), "CPU")
    use_device(config_of(target))
    assert found.calls == ([] if target == "CPU" else [(target, None)])
    assert os.environ.get("SKNET_OPS_BACKEND") == backend
    assert found.op_by_op == (target == "Ascend")
    use_device(config_of(target))  # MindSpore refuses to be told twice
    assert len(found.calls) == (target != "CPU")


def test_a_mindspore_for_other_devices_computes_on_cpu_too(fake) -> None:
    found = fake(("Ascend", "CPU"), "Ascend")
    use_device(config_of("CPU"))
    assert found.calls == [("CPU", None)]


def test_the_installed_mindspore() -> None:
    assert "CPU" in device.devices.present()
    assert device.devices.target() == "CPU"
    assert device.devices.version == ms.__version__


def test_devices_that_are_not_there(fake) -> None:
    fake(("CPU",), "CPU")
    message = "^device_target: Ascend given, but the MindSpore installed, 2.99, has no such device, only CPU$"
    with pytest.raises(ConfigError, match=message):
        use_device(config_of("Ascend"))
    found = fake(("GPU", "CPU"), "CPU")
    found.error = RuntimeError("--------\nThe runtime has been initialized\nmore")
    with pytest.raises(ConfigError, match="^device_target: MindSpore cannot compute on GPU: The runtime has been init"):
        use_device(config_of("GPU"))
    assert "SKNET_OPS_BACKEND" not in os.environ


def test_backends_that_cannot_run(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(("Ascend", "CPU"), "Ascend", {"ascend": "no CANN toolkit", "cpu": "not on an NPU"})
    message = "device_target: Ascend given, but backend ascend of sknet_ops, which it needs, cannot run here: no CANN"
    with pytest.raises(ConfigError, match=message):
        use_device(config_of("Ascend"))
    monkeypatch.setenv("SKNET_OPS_BACKEND", "cpu")
    with pytest.raises(ConfigError, match="backend cpu of sknet_ops, which SKNET_OPS_BACKEND names, .*: not on an NPU"):
        use_device(config_of("Ascend"))
    monkeypatch.setenv("SKNET_OPS_BACKEND", "tpu")
    with pytest.raises(ConfigError, match="SKNET_OPS_BACKEND: got 'tpu', expected one of cpu, reference, ascend"):
        use_device(config_of("Ascend"))


@pytest.mark.parametrize("command", ["train", "validate"])
def test_commands_where_mindspore_has_no_such_device(
    command: str, image_folder, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    if device.devices.present() != ("CPU",):
        pytest.skip("this MindSpore has other devices")
    weights = tmp_path / "a.ckpt"
    weights.touch()
    argv = [command, "--data_dir", str(image_folder({"train": 2, "val": 1})), "--device_target", "Ascend"]
    assert main([*argv, *(["--ckpt_path", str(weights)] if command == "validate" else [])]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"sknet {command}: error: device_target: Ascend given, but the MindSpore installed, {ms.__version__}, has no "
        f"such device, only CPU"
    )


@pytest.mark.parametrize(
    ("target", "starter", "exchange", "number", "patience"),
    [
        ("CPU", "msrun", "mccl", [], "MS_RECEIVE_MSG_TIMEOUT"),
        ("Ascend", "msrun", "hccl", [("Ascend", None)], "HCCL_EXEC_TIMEOUT"),
        ("Ascend", "mpirun", "hccl", [("Ascend", 3)], "HCCL_EXEC_TIMEOUT"),
        ("GPU", "msrun", "nccl", [("GPU", None)], None),
        ("GPU", "mpirun", "nccl", [("GPU", 3)], None),
    ],
)
def test_processes_find_each_other(
    target: str, starter: str, exchange: str, number: list, patience: str | None, fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank and number of processes are what the exchange says; the device is the process's own on its machine."""
    found = fake(("Ascend", "GPU", "CPU"), "CPU")
    if starter == "msrun":
        monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    else:
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "16")
        monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "3")
    begun, parallel = [], {}
    monkeypatch.setattr(communication, "init", begun.append)
    monkeypatch.setattr(communication, "get_rank", lambda: 11)
    monkeypatch.setattr(communication, "get_group_size", lambda: 16)
    monkeypatch.setattr(ms, "set_auto_parallel_context", lambda **values: parallel.update(values))
    config = config_of(target, distribute=True)
    use_device(config)
    group = Group.join(config)
    assert found.calls == number
    assert begun == [exchange]
    assert (group.rank, group.size, group.first) == (11, 16, False)
    assert (parallel["gradients_mean"], parallel["device_num"]) == (True, 16)
    for name in ("MS_RECEIVE_MSG_TIMEOUT", "HCCL_EXEC_TIMEOUT"):
        assert os.environ.get(name) == ("3600" if name == patience else None)


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_mixed_precision_on_ascend(level: str, fake, recipe_of_seconds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers are told; which type they compute in then is tested with the operators. The logits are float32."""
    fake(("Ascend", "CPU"), "CPU")
    monkeypatch.delenv("SKNET_OPS_BACKEND", raising=False)
    settings = recipe_of_seconds({"train": 9, "val": 1}, batch_size=4)
    net = Trainer(settings("run", device_target="Ascend", amp_level=level)).net
    kinds = {cell.map_dtype for _, cell in net.cells_and_names() if hasattr(cell, "map_dtype")}
    assert kinds == {None if level == "O0" else ms.float16}
    assert {p.dtype for p in net.get_parameters()} == {ms.float32}
    for kind in (ms.float16, ms.float32):
        monkeypatch.setattr(
            net, "forward_features", lambda x, kind=kind: ms.ops.zeros((2, net.num_features, 1, 1), kind)
        )
        assert net(ms.Tensor([0.0])).dtype == ms.float32


def test_mixed_precision_that_is_nowhere() -> None:
    with pytest.raises(
        ConfigError, match="amp_level: O3 given, but this version has not: norms in half precision; give"
    ):
        config_of("Ascend", amp_level="O3")
    with pytest.raises(ConfigError, match="amp_level: O1 given, .* on device_target GPU; give --amp_level O0"):
        config_of("GPU", amp_level="O1")


def test_mpirun_is_not_for_cpu(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(("Ascend", "CPU"), "CPU")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="not started by msrun. Give"):
        Group.join(config_of("CPU", distribute=True))
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE")
    with pytest.raises(ConfigError, match="not started by msrun or mpirun. Give"):
        Group.join(config_of("Ascend", distribute=True))
