# SPDX-License-Identifier: Apache-2.0
"""The SK unit in PyTorch, as a peer: plain modules and functions, nothing of ours."""

from __future__ import annotations

import torch
from shapes import Unit
from torch import nn
from torch.nn import functional as F


class SkUnit(nn.Module):
    """Two grouped 3x3 convolutions, of dilation 1 and 2, and the attention between them."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(unit.channels, unit.channels, 3, unit.stride, dilation, dilation, unit.groups, bias=False)
            for dilation in (1, 2)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(unit.channels) for _ in range(2))
        self.fc_reduce = nn.Conv2d(unit.channels, unit.hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(unit.hidden)
        self.fc_select = nn.Conv2d(unit.hidden, 2 * unit.channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = [F.relu(norm(conv(x))) for conv, norm in zip(self.convs, self.norms, strict=True)]
        pooled = (u[0] + u[1]).mean((2, 3), keepdim=True)
        logits = self.fc_select(F.relu(self.norm(self.fc_reduce(pooled))))
        attention = torch.softmax(logits.unflatten(1, (2, x.shape[1])), 1)
        return attention[:, 0] * u[0] + attention[:, 1] * u[1]

    def arguments(self) -> dict[str, object]:
        """The same parameters and statistics as our op takes them: float32, contiguous."""

        def flat(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().float().contiguous()

        both = self.norms
        return {
            "weight": [flat(conv.weight) for conv in self.convs],
            "gamma": [flat(norm.weight) for norm in both],
            "beta": [flat(norm.bias) for norm in both],
            "moving_mean": [flat(norm.running_mean) for norm in both],
            "moving_variance": [flat(norm.running_var) for norm in both],
            "fc_reduce": flat(self.fc_reduce.weight),
            "attn_gamma": flat(self.norm.weight),
            "attn_beta": flat(self.norm.bias),
            "attn_moving_mean": flat(self.norm.running_mean),
            "attn_moving_variance": flat(self.norm.running_var),
            "fc_select": flat(self.fc_select.weight),
            "stride": self.convs[0].stride[0],
            "groups": self.convs[0].groups,
            "dilation": [1, 2],
            "padding": [1, 2],
        }


SAVED = ("z", "mean", "inv_std", "pooled", "hidden", "attn_mean", "attn_inv_std")
