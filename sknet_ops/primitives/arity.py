# SPDX-License-Identifier: Apache-2.0
"""Gradients of fixed arity.

MindSpore takes a ``bprop`` only as a function, in a source file, with one named argument for each input: no ``*args``.
Each function here turns ``grad(inputs, out, dout)``, written for any number of inputs, into one of those.
"""

from __future__ import annotations

from collections.abc import Callable

Grad = Callable[[tuple, tuple, tuple], tuple]


def _arity_1(grad: Grad) -> Callable:
    def bprop(a0, out, dout):
        return grad((a0,), out, dout)

    return bprop


def _arity_2(grad: Grad) -> Callable:
    def bprop(a0, a1, out, dout):
        return grad((a0, a1), out, dout)

    return bprop


def _arity_6(grad: Grad) -> Callable:
    def bprop(a0, a1, a2, a3, a4, a5, out, dout):
        return grad((a0, a1, a2, a3, a4, a5), out, dout)

    return bprop


def _arity_7(grad: Grad) -> Callable:
    def bprop(a0, a1, a2, a3, a4, a5, a6, out, dout):
        return grad((a0, a1, a2, a3, a4, a5, a6), out, dout)

    return bprop


def _arity_11(grad: Grad) -> Callable:
    def bprop(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, out, dout):
        return grad((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10), out, dout)

    return bprop


def _arity_12(grad: Grad) -> Callable:
    def bprop(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, out, dout):
        return grad((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11), out, dout)

    return bprop


def _arity_16(grad: Grad) -> Callable:
    def bprop(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, out, dout):
        return grad((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15), out, dout)

    return bprop


def _arity_17(grad: Grad) -> Callable:
    def bprop(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, out, dout):
        return grad((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16), out, dout)

    return bprop


def _arity_21(grad: Grad) -> Callable:
    def bprop(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, out, dout):
        return grad(
            (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20), out, dout
        )

    return bprop


def _arity_22(grad: Grad) -> Callable:
    def bprop(
        a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, out, dout
    ):
        return grad(
            (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21),
            out,
            dout,
        )

    return bprop


def _arity_27(grad: Grad) -> Callable:
    def bprop(
        a0,
        a1,
        a2,
        a3,
        a4,
        a5,
        a6,
        a7,
        a8,
        a9,
        a10,
        a11,
        a12,
        a13,
        a14,
        a15,
        a16,
        a17,
        a18,
        a19,
        a20,
        a21,
        a22,
        a23,
        a24,
        a25,
        a26,
        out,
        dout,
    ):
        return grad(
            (
                a0,
                a1,
                a2,
                a3,
                a4,
                a5,
                a6,
                a7,
                a8,
                a9,
                a10,
                a11,
                a12,
                a13,
                a14,
                a15,
                a16,
                a17,
                a18,
                a19,
                a20,
                a21,
                a22,
                a23,
                a24,
                a25,
                a26,
            ),
            out,
            dout,
        )

    return bprop


_WRAPPERS = {
    1: _arity_1,
    2: _arity_2,
    6: _arity_6,
    7: _arity_7,
    11: _arity_11,
    12: _arity_12,
    16: _arity_16,
    17: _arity_17,
    21: _arity_21,
    22: _arity_22,
    27: _arity_27,
}


def with_arity(inputs: int, grad: Grad) -> Callable:
    """`grad` as a ``bprop`` of an op with so many inputs."""
    return _WRAPPERS[inputs](grad)
