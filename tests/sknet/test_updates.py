# SPDX-License-Identifier: Apache-2.0
"""Gradients gathered over steps, and averaged weights."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from sknet.config import load_config
from sknet.engine.updates import Updates

from tests.mindspore_tools import mode  # noqa: F401


def make(norm: bool = False) -> nn.Cell:
    """Two layers, always the same, with statistics between them or without."""
    rng = np.random.default_rng(0)
    net = nn.SequentialCell([nn.Dense(6, 5), nn.BatchNorm1d(5) if norm else nn.ReLU(), nn.Dense(5, 3)])
    for parameter in net.trainable_params():
        parameter.set_data(ms.Tensor(rng.standard_normal(parameter.shape).astype(np.float32)))
    return net


def values(net: nn.Cell) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in net.get_parameters()}


@pytest.fixture
def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((24, 6)).astype(np.float32), rng.integers(0, 3, 24).astype(np.int32)


def test_gathered_gradients_are_the_large_batchs(data, mode: str) -> None:  # noqa: F811
    images, labels = data
    recipe = {"weight_decay": 0.03, "loss_scale": 16, "clip_grad": True, "clip_value": 0.7, "use_nesterov": True}
    rates = [0.5, 0.3, 0.2]
    all_rates = [9.0, 9.0, 0.5, 9.0, 9.0, 0.3, 9.0, 9.0, 0.2, 9.0, 9.0]  # an update takes its last step's
    whole, parts = make(), make()
    large = Updates(whole, load_config(None, **recipe), rates)
    small = Updates(parts, load_config(None, gradient_accumulation_steps=3, **recipe), all_rates)
    for step in range(3):
        large(step, images[step * 6 : step * 6 + 6], labels[step * 6 : step * 6 + 6])
        before = values(parts)
        for number in range(3 * step, 3 * step + 3):
            for name, value in values(parts).items():
                np.testing.assert_array_equal(value, before[name], err_msg=name)
            small(number, images[number * 2 : number * 2 + 2], labels[number * 2 : number * 2 + 2])
        for name, value in values(whole).items():
            assert not np.array_equal(value, before[name])
            np.testing.assert_allclose(values(parts)[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_average_follows_the_weights(data, mode: str) -> None:  # noqa: F811
    images, labels = data
    net, decay = make(norm=True), 0.9
    updates = Updates(net, load_config(None, ema=True, ema_decay=decay, gradient_accumulation_steps=2), [0.5] * 6)
    updates.average.count.set_data(ms.Tensor(700.0, ms.float32))
    net.set_train(True)
    want = {name: value.astype(np.float64) for name, value in values(net).items()}
    for step in range(6):
        updates(step, images[step * 4 : step * 4 + 4], labels[step * 4 : step * 4 + 4])
        if step % 2:
            keep = decay * (1 - np.exp(-(700 + step // 2 + 1) / 2000))
            want = {name: want[name] * keep + value * (1 - keep) for name, value in values(net).items()}
    weights = values(net)
    with pytest.raises(KeyboardInterrupt), updates.averaged():
        for name, value in values(net).items():
            np.testing.assert_allclose(value, want[name], rtol=1e-5, atol=1e-6, err_msg=name)
            assert not np.array_equal(value, weights[name]), name
        raise KeyboardInterrupt
    for name, value in values(net).items():
        np.testing.assert_array_equal(value, weights[name], err_msg=name)
