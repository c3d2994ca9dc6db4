# SPDX-License-Identifier: Apache-2.0
"""One step of training and of evaluation, each a cell, so that graph mode compiles it whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops


class CrossEntropy(nn.Cell):
    """Mean cross entropy of logits (n, classes) and labels (n,), a share of the target spread over all classes.

    Labels may be targets (n, classes) instead, as mixup makes them.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = label_smoothing

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        return ops.cross_entropy(logits, labels, label_smoothing=self.smoothing)


class BinaryCrossEntropy(nn.Cell):
    """Each class by itself: mean over images and classes of the sigmoid's cross entropy, with the same smoothing."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = label_smoothing

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        classes = logits.shape[1]
        target = labels
        if labels.ndim == 1:
            target = ops.one_hot(labels, classes, Tensor(1.0, logits.dtype), Tensor(0.0, logits.dtype))
        target = target * (1 - self.smoothing) + self.smoothing / classes
        # log(1 + exp(x)) - target * x, without overflow.
        losses = ops.relu(logits) - logits * target + ops.log1p(ops.exp(-ops.abs(logits)))
        return losses.mean()


LOSSES = {"CE": CrossEntropy, "BCE": BinaryCrossEntropy}


class TrainStep(nn.Cell):
    """(images, labels) -> loss; updates the parameters, the running statistics and the optimizer's state.

    Args:
        clip: largest global norm of the gradients; None: any.
        ranks: processes whose gradients, and losses, are averaged.
    """

    def __init__(
        self,
        net: nn.Cell,
        loss: nn.Cell,
        optimizer: nn.Optimizer,
        loss_scale: float = 1.0,
        clip: float | None = None,
        ranks: int = 1,
    ) -> None:
        super().__init__(auto_prefix=False)  # the parameters keep their names
        self.net = net
        self.loss = loss
        self.optimizer = optimizer
        self.loss_scale = loss_scale
        # The optimizer divides by the scale after this.
        self.clip = None if clip is None else clip * loss_scale
        self.local_gradients = ops.value_and_grad(self.forward, None, optimizer.parameters)
        self.ranks = ranks
        if ranks > 1:
            self.average = nn.DistributedGradReducer(optimizer.parameters, mean=True, degree=ranks)
            self.sum = ops.AllReduce()

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.net(images), labels) * self.loss_scale

    def gradients(self, images: Tensor, labels: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The scaled loss and its gradients, means over the processes."""
        loss, gradients = self.local_gradients(images, labels)
        if self.ranks > 1:
            loss, gradients = self.sum(loss) / self.ranks, self.average(gradients)
        return loss, gradients

    def update(self, loss: Tensor, gradients: tuple[Tensor, ...]) -> Tensor:
        """The loss, once the optimizer is done."""
        if self.clip is not None:
            gradients = ops.clip_by_global_norm(gradients, self.clip)
        return ops.depend(loss, self.optimizer(gradients))

    def construct(self, images: Tensor, labels: Tensor) -> Tensor:
        loss, gradients = self.gradients(images, labels)
        return self.update(loss, gradients) / self.loss_scale


class AccumulatingStep(nn.Cell):
    """(images, labels) -> loss; adds a `count`-th of the gradients to `gathered`, and updates running statistics."""

    def __init__(self, step: TrainStep, count: int) -> None:
        super().__init__(auto_prefix=False)
        self.step = step
        self.share = 1 / count
        self.gathered = step.optimizer.parameters.clone("gathered", "zeros")

    def construct(self, images: Tensor, labels: Tensor) -> Tensor:
        loss, gradients = self.step.gradients(images, labels)
        for i in range(len(self.gathered)):
            loss = ops.depend(loss, ops.assign_add(self.gathered[i], gradients[i] * self.share))
        return loss / self.step.loss_scale


class GatheredUpdate(nn.Cell):
    """() -> 0; updates the parameters by the gathered gradients, and empties these."""

    def __init__(self, accumulating: AccumulatingStep) -> None:
        super().__init__(auto_prefix=False)
        self.step = accumulating.step
        self.gathered = accumulating.gathered

    def construct(self) -> Tensor:
        gradients = ()
        for parameter in self.gathered:
            gradients += (parameter * 1,)  # a copy: the parameter is emptied below
        done = self.step.update(Tensor(0.0, ms.float32), gradients)
        for i in range(len(self.gathered)):
            empty = ops.depend(ops.zeros_like(gradients[i]), done)
            done = ops.depend(done, ops.assign(self.gathered[i], empty))
        return done


class WeightAverage(nn.Cell):
    """() -> updates so far; moves the average of all parameters and running statistics towards their values.

    The share kept is MindCV's: decay * (1 - exp(-updates / 2000)), so that the first steps do not weigh long.
    """

    def __init__(self, net: nn.Cell, decay: float) -> None:
        super().__init__(auto_prefix=False)
        self.decay = decay
        self.weights = ParameterTuple(list(net.get_parameters()))
        self.average = self.weights.clone("ema", "same")
        self.count = Parameter(Tensor(0.0, ms.float32), name="ema_updates")

    def construct(self) -> Tensor:
        count = ops.assign_add(self.count, Tensor(1.0, ms.float32))
        keep = self.decay * (1 - ops.exp(-count / 2000))
        for i in range(len(self.weights)):
            # In this form what does not change keeps its average bit for bit.
            change = (self.weights[i] - self.average[i]) * (1 - keep)
            count = ops.depend(count, ops.assign_add(self.average[i], change))
        return count

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averages for its parameters meanwhile."""
        held = [weight.asnumpy().copy() for weight in self.weights]
        for weight, average in zip(self.weights, self.average, strict=True):
            # Not set_data: in PyNative mode the optimizer then did other updates than without.
            ops.assign(weight, average)
        try:
            yield
        finally:
            for weight, array in zip(self.weights, held, strict=True):
                ops.assign(weight, Tensor(array))


class EvalStep(nn.Cell):
    """images -> logits, with the running statistics."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, images: Tensor) -> Tensor:
        return self.net(images)
