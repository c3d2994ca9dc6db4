# SPDX-License-Identifier: Apache-2.0
"""Small networks, each with one way to write a convolution and what follows it, and what fuse must make of it.

``swapped``: name of the convolution -> what is fused with it. ``left``: name -> part of the reason. The comment over a
class says what would go wrong.
"""

from __future__ import annotations

import functools
from collections import OrderedDict

from mindspore import Tensor, nn, ops

CONV, NORM, ADD, RELU = "convolution", "norm", "addition", "ReLU"


def conv(c_in: int = 4, c_out: int = 4, kernel: int = 3, **config) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, **{"pad_mode": "pad", "padding": kernel // 2, **config})


def norm(channels: int = 4) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.8)


class Base(nn.Cell):
    swapped: dict[str, tuple[str, ...]] = {}
    left: dict[str, str] = {}

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv()
        self.bn1 = norm()
        self.relu = nn.ReLU()


class Statements(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def construct(self, x: Tensor) -> Tensor:
        """A docstring stays."""
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.relu(x)
        return x


class OneExpression(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def construct(self, x: Tensor) -> Tensor:
        return self.relu(self.bn1(self.conv1(x)))


class NamesForEachValue(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def construct(self, x: Tensor) -> Tensor:
        a = self.conv1(x * 2)
        b = self.bn1(a)
        c = self.relu(b)
        return c + x


class OtherMethod(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def features(self, x: Tensor, scale: float = 2.0) -> Tensor:
        x = self.conv1(x * scale)
        x = self.bn1(x)
        return self.relu(x)

    def construct(self, x: Tensor) -> Tensor:
        return self.features(x) + x * self.features(x, 0.5)


class WithoutActivation(Base):
    swapped = {"conv1": (CONV, NORM)}

    def construct(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.bn1(x)
        return x * 3


class OtherActivation(Base):
    swapped = {"conv1": (CONV, NORM)}

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU6()

    def construct(self, x: Tensor) -> Tensor:
        return self.act(self.bn1(self.conv1(x)))


class ReluFunction(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def construct(self, x: Tensor) -> Tensor:
        return ops.relu(self.bn1(self.conv1(x)))


class ReluPrimitive(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def __init__(self) -> None:
        super().__init__()
        self.act = ops.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        return self.act(self.bn1(self.conv1(x)))


class Two(Base):
    """Two convolutions, for residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = conv()
        self.bn2 = norm()
        self.down_sample = nn.SequentialCell([conv(kernel=1), norm()])


class ResidualInPlace(Two):
    swapped = {
        "conv1": (CONV, NORM, RELU),
        "conv2": (CONV, NORM, ADD, RELU),
        "down_sample.0": (CONV, NORM),
    }

    def construct(self, x: Tensor) -> Tensor:
        identity = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.down_sample is not None:
            identity = self.down_sample(x)
        out += identity
        out = self.relu(out)
        return out


# Either could take the addition; the one that is written first gets it.
class ResidualOnTheLeft(Two):
    swapped = {
        "conv1": (CONV, NORM, RELU),
        "conv2": (CONV, NORM),
        "down_sample.0": (CONV, NORM, ADD, RELU),
    }

    def construct(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.down_sample(x) + self.bn2(self.conv2(y)))


class ResidualWithoutRelu(Two):
    swapped = {**ResidualInPlace.swapped, "conv2": (CONV, NORM, ADD)}

    def construct(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y)) + self.down_sample(x)


# The addition comes after the ReLU, and the op has it before.
class AdditionAfterRelu(Two):
    swapped = {"conv1": (CONV, NORM, RELU), "conv2": (CONV, NORM, RELU), "down_sample.0": (CONV, NORM, ADD)}

    def construct(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x))) + self.down_sample(x)
        return self.relu(self.bn2(self.conv2(y))) + y


class ResidualThatBroadcasts(Two):
    swapped = {"conv1": (CONV, NORM, ADD, RELU), "conv2": (CONV, NORM, ADD), "down_sample.0": (CONV, NORM)}

    def construct(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)) + x.mean((2, 3), keep_dims=True))
        return self.bn2(self.conv2(y)) + self.down_sample(x).mean(0)


class SumOfTwoRuns(Two):
    swapped = {"conv1": (CONV, NORM, ADD, RELU), "conv2": (CONV, NORM), "down_sample.0": (CONV, NORM)}

    def construct(self, x: Tensor) -> Tensor:
        return self.relu(self.bn1(self.conv1(x)) + self.bn2(self.conv2(self.down_sample(x))))


# The norm's result is needed as it is, too.
class ValueNeededTwice(Base):
    swapped = {"conv1": (CONV, NORM)}

    def construct(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = self.bn1(x)
        return self.relu(y) - y


class ConvolutionNeededTwice(Base):
    left = {"conv1": "no nn.BatchNorm2d was seen to follow"}

    def construct(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = self.bn1(x)
        return self.relu(y) + x


class ConvolutionNeededOnTheSameLine(Base):
    left = {"conv1": "no nn.BatchNorm2d was seen to follow"}

    def construct(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.relu(self.bn1(x) - x)


# The convolution would move past the assignment to what it reads.
class InputReassigned(Base):
    left = {"conv1": "no nn.BatchNorm2d was seen to follow"}

    def construct(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        x = x * 2
        y = self.bn1(y)
        return y + x


# ... and past a change of its input in place.
class InputChangedInPlace(Base):
    left = {"conv1": "no nn.BatchNorm2d was seen to follow"}

    def construct(self, x: Tensor) -> Tensor:
        other = x * 1
        y = self.conv1(other)
        x += 1
        y = self.bn1(y)
        return y + x


class OtherStatementsBetween(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def construct(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        z = x * 2
        y = self.bn1(y)
        a, b = z + 1, z - 1
        y = self.relu(y)
        return y + a * b


class NormInABranch(Base):
    left = {"conv1": "no nn.BatchNorm2d was seen to follow"}

    def __init__(self) -> None:
        super().__init__()
        self.use_norm = True

    def construct(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if self.use_norm:
            x = self.bn1(x)
        return self.relu(x)


# The norm would no longer see the batch of a call that returns early.
class EarlyReturn(Base):
    left = {"conv1": "no nn.BatchNorm2d was seen to follow"}

    def __init__(self) -> None:
        super().__init__()
        self.early = False

    def construct(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        if self.early:
            return x
        y = self.bn1(y)
        return y


class RunInABranch(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def construct(self, x: Tensor) -> Tensor:
        if self.training:
            x = self.conv1(x)
            x = self.bn1(x)
            x = self.relu(x)
        else:
            x = self.relu(self.bn1(self.conv1(x))) * 2
        return x


class RunInALoop(Base):
    swapped = {"conv1": (CONV, NORM, RELU)}

    def construct(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.conv1(x)
            x = self.bn1(x)
            x = self.relu(x)
        return x


# In the second round the first value is read again.
class ValueNeededInTheNextRound(Base):
    left = {"conv1": "no nn.BatchNorm2d was seen to follow"}

    def construct(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(2):
            x = x + y
            y = self.conv1(x)
            x = self.bn1(y)
        return x


class CellsOfALoop(nn.Cell):
    left = {"convs.0": "no nn.BatchNorm2d was seen to follow", "convs.1": "no nn.BatchNorm2d was seen to follow"}
    swapped = {}

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.CellList([conv(), conv()])
        self.norms = nn.CellList([norm(), norm()])

    def construct(self, x: Tensor) -> Tensor:
        for i in range(2):
            x = self.norms[i](self.convs[i](x))
        return x


class CellsByNumber(CellsOfALoop):
    swapped = {"convs.0": (CONV, NORM), "convs.1": (CONV, NORM)}
    left = {}

    def construct(self, x: Tensor) -> Tensor:
        x = self.norms[0](self.convs[0](x))
        return self.norms[1](self.convs[-1](x))


class CalledTwice(Base):
    swapped = {"conv1": (CONV, NORM)}

    def construct(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn1(self.conv1(y))
        return y


class WithSuper(Statements):
    swapped = {}
    left = {"conv1": "construct of WithSuper: uses super()"}

    def construct(self, x: Tensor) -> Tensor:
        return super().construct(x) * 2


class Inherited(Statements):
    """Has no construct of its own."""


def doubled(method):
    @functools.wraps(method)
    def wrapper(self, x):
        return method(self, x) * 2

    return wrapper


class Decorated(Base):
    left = {"conv1": "construct of Decorated: uses super() or variables of an enclosing function"}

    @doubled
    def construct(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x))


class PrivateName(nn.Cell):
    swapped = {}
    left = {"_PrivateName__conv": "uses the private name __conv"}

    def __init__(self) -> None:
        super().__init__()
        self.__conv = conv()
        self.bn1 = norm()

    def construct(self, x: Tensor) -> Tensor:
        return self.bn1(self.__conv(x))


class LocalShadows(Base):
    """`ops` is a local name here, not the module."""

    swapped = {"conv1": (CONV, NORM)}

    def construct(self, x: Tensor) -> Tensor:
        ops = self
        x = self.bn1(self.conv1(x))
        return ops.relu(x)


class NoNorm(Base):
    left = {"conv1": "nn.ReLU follows, expected nn.BatchNorm2d"}

    def construct(self, x: Tensor) -> Tensor:
        return self.relu(self.conv1(x))


class Settings(Base):
    """One convolution that the op cannot compute; subclasses say which."""

    config: dict = {}

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(**self.config)

    def construct(self, x: Tensor) -> Tensor:
        return self.relu(self.bn1(self.conv1(x)))


class Bias(Settings):
    config = {"has_bias": True}
    left = {"conv1": "has_bias=True, expected a convolution without bias"}


class Oblong(Settings):
    config = {"kernel": (3, 1), "padding": (1, 1, 0, 0)}
    left = {"conv1": "kernel_size (3, 1), expected the same in both directions"}

    def __init__(self) -> None:
        Base.__init__(self)
        self.conv1 = nn.Conv2d(4, 4, (3, 1), pad_mode="pad", padding=(1, 1, 0, 0))


class Lopsided(Settings):
    config = {"padding": (0, 2, 0, 2)}
    left = {"conv1": "padding (0, 2, 0, 2), expected the same on all sides"}


class SameStrided(Settings):
    config = {"pad_mode": "same", "padding": 0, "stride": 2}
    left = {"conv1": "pad_mode 'same' with stride 2"}


class Sequence(nn.Cell):
    swapped = {
        "body.0": (CONV, NORM, RELU),
        "body.3": (CONV, NORM),
        "body.6.first": (CONV, NORM, RELU),
    }
    left = {"body.7": "nn.ReLU follows, expected nn.BatchNorm2d", "body.9": "no nn.BatchNorm2d was seen to follow"}

    def __init__(self) -> None:
        super().__init__()
        inner = nn.SequentialCell(OrderedDict([("first", conv()), ("second", norm()), ("third", nn.ReLU())]))
        cells = [conv(), norm(), nn.ReLU(), conv(group=4), norm(), nn.ReLU6(), inner, conv(), nn.ReLU(), conv()]
        self.body = nn.SequentialCell(cells)

    def construct(self, x: Tensor) -> Tensor:
        return self.body(x)


class Reversed(nn.SequentialCell):
    """A sequence with a construct of its own."""

    def construct(self, x: Tensor) -> Tensor:
        for i in range(len(self.cell_list)):
            x = self.cell_list[len(self.cell_list) - 1 - i](x)
        return x


class OtherSequence(nn.Cell):
    swapped = {}
    left = {"body.0": "no nn.BatchNorm2d was seen to follow"}

    def __init__(self) -> None:
        super().__init__()
        self.body = Reversed([conv(), norm(), nn.ReLU()])

    def construct(self, x: Tensor) -> Tensor:
        return self.body(x)


NETWORKS = [
    Statements, OneExpression, NamesForEachValue, OtherMethod, WithoutActivation, OtherActivation, ReluFunction,
    ReluPrimitive, ResidualInPlace, ResidualOnTheLeft, ResidualWithoutRelu, AdditionAfterRelu, ResidualThatBroadcasts,
    SumOfTwoRuns, ValueNeededTwice, ConvolutionNeededTwice, ConvolutionNeededOnTheSameLine, InputReassigned,
    InputChangedInPlace, OtherStatementsBetween, NormInABranch, EarlyReturn, RunInABranch, RunInALoop,
    ValueNeededInTheNextRound, CellsOfALoop, CellsByNumber, CalledTwice, WithSuper, Inherited, Decorated, PrivateName,
    LocalShadows, NoNorm, Bias, Oblong, Lopsided, SameStrided, Sequence, OtherSequence,
]  # fmt: skip
