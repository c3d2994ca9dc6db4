# SPDX-License-Identifier: Apache-2.0
"""One training step of our networks against the same step of MindCV's own."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from sknet import create_model, load_weights

ULP = 2.0**-24
MARGIN = 3
DRAWS = 5


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def train_step(net: nn.Cell, x: Tensor, labels: Tensor) -> tuple[np.ndarray, float, dict, dict]:
    """Logits, loss, gradients and running statistics by name."""
    net.set_train(True)
    loss_fn = nn.CrossEntropyLoss()

    def forward(x, labels):
        logits = net(x)
        return loss_fn(logits, labels), logits

    params = net.trainable_params()
    (loss, logits), grads = ops.value_and_grad(forward, None, params, has_aux=True)(x, labels)
    by_name = {p.name: g.asnumpy() for p, g in zip(params, grads, strict=True)}
    statistics = {p.name: p.asnumpy().copy() for p in net.get_parameters() if ".moving_" in p.name}
    return logits.asnumpy(), float(loss.asnumpy()), by_name, statistics


@pytest.mark.parametrize("name", ["skresnet18", "skresnet50"])
def test_training_step(name: str, graph_mode: None) -> None:
    mindcv = pytest.importorskip("mindcv")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    ms.set_seed(1)
    rng = np.random.default_rng(0)
    theirs, ours = mindcv.create_model(name, num_classes=10), create_model(name, num_classes=10)
    weights = {p.name: p.asnumpy().copy() for p in theirs.get_parameters()}
    x = Tensor(rng.standard_normal((8, 3, 64, 64)).astype(np.float32))
    labels = Tensor(rng.integers(0, 10, 8).astype(np.int32))

    want = train_step(theirs, x, labels)
    load_weights(ours, weights)
    got = train_step(ours, x, labels)
    assert relative(got[0], want[0]) < 1e-4
    assert abs(got[1] - want[1]) < 1e-4 * want[1]
    for key, value in want[3].items():
        # Some means are zero but for rounding; those of a normalised input are of order one.
        np.testing.assert_allclose(got[3][key], value, rtol=1e-4, atol=1e-5, err_msg=key)

    # A ReLU that opens or not for a rounding error makes single gradients differ by per cents. What this network makes
    # of weights that differ in their last bit is the measure: the most of several draws, as one may meet no such ReLU.
    errors = np.array([relative(got[2][key], want[2][key]) for key in want[2]])
    draws = []
    for _ in range(DRAWS):
        moved = {k: w * (1 + ULP * rng.standard_normal(w.shape)) for k, w in weights.items()}
        load_weights(ours, {k: w.astype(np.float32) for k, w in moved.items()})
        near = train_step(ours, x, labels)
        draws.append([relative(near[2][key], got[2][key]) for key in want[2]])
    median, largest = np.median(draws, axis=1).max(), np.max(draws)
    print(f"{name}: gradients' errors, median {np.median(errors):.1e}, largest {errors.max():.1e}; "
          f"of one bit {median:.1e}, {largest:.1e}")  # fmt: skip
    assert np.median(errors) < MARGIN * median
    assert errors.max() < MARGIN * largest
    # The classifier's gradients pass through no ReLU.
    for key in ("classifier.weight", "classifier.bias"):
        assert relative(got[2][key], want[2][key]) < 1e-4
