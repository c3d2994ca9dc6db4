# SPDX-License-Identifier: Apache-2.0
"""One step of training and of evaluation, each a cell, so that graph mode compiles it whole."""

from __future__ import annotations

from mindspore import Tensor, nn, ops


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
    """

    def __init__(
        self, net: nn.Cell, loss: nn.Cell, optimizer: nn.Optimizer, loss_scale: float = 1.0, clip: float | None = None
    ) -> None:
        super().__init__(auto_prefix=False)  # the parameters keep their names
        self.net = net
        self.loss = loss
        self.optimizer = optimizer
        self.loss_scale = loss_scale
        # The optimizer divides by the scale after this.
        self.clip = None if clip is None else clip * loss_scale
        self.gradients = ops.value_and_grad(self.forward, None, optimizer.parameters)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.net(images), labels) * self.loss_scale

    def construct(self, images: Tensor, labels: Tensor) -> Tensor:
        loss, gradients = self.gradients(images, labels)
        if self.clip is not None:
            gradients = ops.clip_by_global_norm(gradients, self.clip)
        loss = ops.depend(loss, self.optimizer(gradients))
        return loss / self.loss_scale


class EvalStep(nn.Cell):
    """images -> logits, with the running statistics."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, images: Tensor) -> Tensor:
        return self.net(images)
