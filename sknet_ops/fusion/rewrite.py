# SPDX-License-Identifier: Apache-2.0
"""Runs of convolution, norm[, + residual][, ReLU] written out in a method.

    out = self.conv3(out)
    out = self.bn3(out)
    if self.down_sample is not None:
        identity = self.down_sample(x)
    out += identity
    out = self.relu(out)

becomes

    if self.down_sample is not None:
        identity = self.down_sample(x)
    out = self.sknet_fused[0](out, identity)

in a subclass made for the purpose, which the cell then gets as its class; the cells themselves stay. Its source
is kept, because graph mode compiles a method from it.

The convolution moves down to where the run ends. So between its statements nothing may stand that touches the value on
its way, assigns what the convolution reads, or does more than assign to plain names.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass

from mindspore import nn, ops

from sknet_ops.fusion.sequential import OnLeft, only_run
from sknet_ops.fusion.step import FusedRun
from sknet_ops.layers.holders import UnsupportedCellError, describe, is_relu
from sknet_ops.layers.phase import stand_in_class
from sknet_ops.source import compile_known

FUSED_ATTRIBUTE = "sknet_fused"

_classes: dict[tuple, type[nn.Cell]] = {}


def fused_before(cell: nn.Cell) -> tuple[FusedRun, ...]:
    """The runs that an earlier call has written into the cell's methods."""
    return cell.__dict__.get(FUSED_ATTRIBUTE, ())


def fuse_methods(cell: nn.Cell, on_left: OnLeft) -> list[tuple[FusedRun, bool]]:
    """Rewrites the methods of the cell's class for this cell; returns the runs, and whether each has a residual."""
    if fused_before(cell) or not _holds_convolutions(cell):
        return []
    runs: list[tuple[FusedRun, bool]] = []
    sources: dict[str, str] = {}
    originals = dict(_own_methods(type(cell)))
    for name, function in originals.items():
        try:
            tree = _parse(function)
        except UnsupportedCellError as error:
            _leave_all(cell, f"{name} of {type(cell).__name__}: {error}", on_left)
            continue
        rewriter = _Rewriter(cell, function, tree, len(runs), on_left)
        rewriter.rewrite()
        if rewriter.runs:
            runs += rewriter.runs
            sources[name] = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    if runs:
        cell.__class__ = _subclass(type(cell), sources, originals)
        object.__setattr__(cell, FUSED_ATTRIBUTE, tuple(run for run, _ in runs))
    return runs


def _holds_convolutions(cell: nn.Cell) -> bool:
    """Has a convolution of its own, or a sequence that is one fused run, and is not one of MindSpore's own cells."""
    if type(cell).__module__.split(".")[0] in ("mindspore", "sknet_ops"):
        return False
    own = [*cell.cells(), *(entry for child in cell.cells() if isinstance(child, nn.CellList) for entry in child)]
    return any(isinstance(child, nn.Conv2d) or only_run(child) for child in own)


def _leave_all(cell: nn.Cell, reason: str, on_left: OnLeft) -> None:
    for child in cell.cells():
        if isinstance(child, nn.Conv2d):
            on_left(child, reason)


# ---- source in, source out ----


def _own_methods(cls: type[nn.Cell]) -> Iterator[tuple[str, types.FunctionType]]:
    """The methods that a cell of this class would run, but for MindSpore's own and special ones."""
    seen = set()
    for base in cls.__mro__:
        if base.__module__.split(".")[0] == "mindspore":
            return
        for name, value in vars(base).items():
            if name not in seen and isinstance(value, types.FunctionType) and not name.startswith("__"):
                yield name, value
            seen.add(name)


def _parse(function: types.FunctionType) -> ast.FunctionDef:
    if function.__code__.co_freevars:
        raise UnsupportedCellError("uses super() or variables of an enclosing function")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError) as error:
        raise UnsupportedCellError(f"its source cannot be read ({error})") from error
    if not isinstance(tree, ast.FunctionDef) or tree.name != function.__name__ or tree.decorator_list:
        raise UnsupportedCellError("is not a plain method")
    if not tree.args.args or tree.args.args[0].arg != "self":
        raise UnsupportedCellError("its first argument is not self")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("__") and not node.attr.endswith("__"):
            raise UnsupportedCellError(f"uses the private name {node.attr}")
    tree.returns = None
    for argument in [*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs]:
        argument.annotation = None
    return tree


def _subclass(cls: type[nn.Cell], sources: dict[str, str], originals: dict[str, types.FunctionType]) -> type[nn.Cell]:
    key = (cls, *sources.items())
    if key not in _classes:
        namespace = {name: _compile(source, originals[name], cls) for name, source in sources.items()}
        _classes[key] = stand_in_class(cls, namespace)
    return _classes[key]


def _compile(source: str, original: types.FunctionType, cls: type[nn.Cell]) -> types.FunctionType:
    scope: dict = {}
    exec(compile_known(source, f"fuse {cls.__qualname__}.{original.__name__}"), original.__globals__, scope)
    function = scope[original.__name__]
    function.__defaults__ = original.__defaults__
    function.__kwdefaults__ = original.__kwdefaults__
    function.__qualname__ = original.__qualname__
    function.source = (source.splitlines(keepends=True), 1)  # where MindSpore looks should linecache have been cleared
    return function


# ---- finding and replacing runs ----


@dataclass
class _Step:
    """One statement as ``target = callee(argument)`` or, without callee, ``target = argument + other``."""

    target: str
    argument: ast.expr
    callee: object = None
    other: ast.expr | None = None


@dataclass
class _Run:
    """A run on its way down a list of statements."""

    conv: nn.Cell
    argument: ast.expr
    value: str  # the name that holds its result so far
    statements: list[int]  # where its parts stand
    norm: nn.Cell | None = None
    residual: ast.expr | None = None
    relu: bool = False


class _Rewriter:
    """Rewrites one method of one cell."""

    def __init__(
        self, cell: nn.Cell, function: types.FunctionType, tree: ast.FunctionDef, first: int, on_left: OnLeft
    ) -> None:
        self.cell = cell
        self.globals = function.__globals__
        self.locals = {*function.__code__.co_varnames, *function.__code__.co_cellvars}
        self.tree = tree
        self.first = first
        self.on_left = on_left
        self.runs: list[tuple[FusedRun, bool]] = []
        self.temporaries = 0
        self.loops = any(isinstance(node, (ast.For, ast.While)) for node in ast.walk(tree))

    def rewrite(self) -> None:
        for node in list(ast.walk(self.tree)):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                    setattr(node, name, self._block(block))

    def _block(self, block: list[ast.stmt]) -> list[ast.stmt]:
        """The block with every run in it replaced; the very same list if there is none."""
        flat = [step for statement in block for step in self._flatten(statement)]
        found, at = False, 0
        while at < len(flat):
            run = self._run_at(flat, at)
            if run is not None and self._replace(flat, run):
                found = True  # and the next statement stands here now
            else:
                at += 1
        return flat if found else block

    def _flatten(self, statement: ast.stmt) -> list[ast.stmt]:
        """``y = f(g(x))`` as ``t = g(x); y = f(t)``, as far as these are calls of cells and additions."""
        if not isinstance(statement, (ast.Assign, ast.AugAssign, ast.Return)) or statement.value is None:
            return [statement]
        before: list[ast.stmt] = []
        value = self._flatten_value(statement.value, before, statement, whole=not isinstance(statement, ast.Return))
        if not before:
            return [statement]
        last = copy.copy(statement)
        last.value = value
        return [*before, last]

    def _flatten_value(self, node: ast.expr, before: list[ast.stmt], at: ast.stmt, whole: bool) -> ast.expr:
        """The expression with its parts moved into `before`; itself too, unless it is the `whole` right-hand side."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left = self._flatten_value(node.left, before, at, False)
            flat: ast.expr = ast.BinOp(left, node.op, self._flatten_value(node.right, before, at, False))
        elif isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords and self._resolve(node.func):
            flat = ast.Call(node.func, [self._flatten_value(node.args[0], before, at, False)], [])
        else:
            return node
        if whole:
            return ast.copy_location(flat, node)
        name = f"sknet_value_{self.temporaries}"
        self.temporaries += 1
        assign = ast.Assign([ast.Name(name, ast.Store())], flat)
        before.append(ast.fix_missing_locations(ast.copy_location(assign, at)))
        return ast.copy_location(ast.Name(name, ast.Load()), at)

    def _step(self, statement: ast.stmt) -> _Step | None:
        if isinstance(statement, ast.AugAssign):
            if isinstance(statement.target, ast.Name) and isinstance(statement.op, ast.Add):
                return _Step(statement.target.id, ast.Name(statement.target.id, ast.Load()), other=statement.value)
            return None
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1):
            return None
        target, value = statement.targets[0], statement.value
        if not isinstance(target, ast.Name):
            return None
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            return _Step(target.id, value.left, other=value.right)
        if isinstance(value, ast.Call) and len(value.args) == 1 and not value.keywords:
            callee = self._resolve(value.func)
            return _Step(target.id, value.args[0], callee) if callee is not None else None
        return None

    def _run_at(self, flat: list[ast.stmt], at: int) -> _Run | None:
        """The run that starts with this statement, followed as far as it goes."""
        step = self._step(flat[at])
        if step is None or step.callee is None:
            return None
        inner = only_run(step.callee)
        if isinstance(step.callee, nn.Conv2d):
            run = _Run(step.callee, step.argument, step.target, [at])
        elif inner is not None and not inner.relu:
            run = _Run(inner.conv_holder, step.argument, step.target, [at], inner.norm_holder)
        else:
            return None
        for index in range(at + 1, len(flat)):
            following = self._step(flat[index])
            if following is not None and self._extend(run, following, flat[index]):
                run.value = following.target
                run.statements.append(index)
                if run.relu:
                    break
            elif run.value in _names(flat[index]) or not _harmless(flat[index], _names(run.argument)):
                break
        return run

    def _extend(self, run: _Run, step: _Step, statement: ast.stmt) -> bool:
        """Takes the step into the run, if it is the next one."""
        if step.target != run.value and self._is_read_after(run.value, statement):
            return False
        if step.callee is None:
            residual = _other_than(run.value, step.argument, step.other)
            in_place_on_other = isinstance(statement, ast.AugAssign) and step.target != run.value
            if run.norm is None or run.residual is not None or residual is None or in_place_on_other:
                return False
            run.residual = residual
            return True
        if not (isinstance(step.argument, ast.Name) and step.argument.id == run.value):
            return False
        if run.norm is None:
            if isinstance(step.callee, nn.BatchNorm2d):
                run.norm = step.callee
                return True
            self.on_left(run.conv, f"{_called(step.callee)} follows, expected nn.BatchNorm2d")
            return False
        run.relu = _is_relu(step.callee)
        return run.relu

    def _replace(self, flat: list[ast.stmt], run: _Run) -> bool:
        """Puts the fused call where the run ends, and takes its other statements out."""
        if run.norm is None:
            return False
        if len(run.statements) == 1:
            return False  # a sequence that is fused already, and nothing to add to it
        try:
            fused = FusedRun.over(run.conv, run.norm)
        except UnsupportedCellError as error:
            self.on_left(run.conv, str(error))
            return False
        fused.relu = run.relu
        holder = ast.Attribute(ast.Name("self", ast.Load()), FUSED_ATTRIBUTE, ast.Load())
        callee = ast.Subscript(holder, ast.Constant(self.first + len(self.runs)), ast.Load())
        arguments = [run.argument] + ([] if run.residual is None else [run.residual])
        assign = ast.Assign([ast.Name(run.value, ast.Store())], ast.Call(callee, arguments, []))
        *others, last = run.statements
        flat[last] = ast.fix_missing_locations(ast.copy_location(assign, flat[last]))
        for index in reversed(others):
            del flat[index]
        self.runs.append((fused, run.residual is not None))
        return True

    def _resolve(self, node: ast.expr) -> object | None:
        """The object that ``self.a``, ``self.a.b``, ``self.a[0]`` or ``module.function`` is, None for all else."""
        if isinstance(node, ast.Name):
            if node.id == "self":
                return self.cell
            return None if node.id in self.locals else self.globals.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._resolve(node.value)
            return getattr(owner, node.attr, None) if isinstance(owner, (nn.Cell, types.ModuleType)) else None
        if isinstance(node, ast.Subscript):
            owner, index = self._resolve(node.value), _literal_index(node.slice)
            if isinstance(owner, (nn.CellList, nn.SequentialCell)) and index is not None:
                return owner[index] if -len(owner) <= index < len(owner) else None
        return None

    def _is_read_after(self, name: str, statement: ast.stmt) -> bool:
        """Whether the value that `name` has when `statement` takes it is needed once more."""
        loads = [node for node in ast.walk(self.tree) if isinstance(node, ast.Name) and node.id == name]
        loads = [node for node in loads if isinstance(node.ctx, ast.Load)]
        if self.loops:
            return len(loads) > 1
        here = [node for node in loads if statement.lineno <= node.lineno <= statement.end_lineno]
        return len(here) > 1 or any(node.lineno > statement.end_lineno for node in loads)


def _literal_index(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, int) else None


def _names(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _harmless(statement: ast.stmt, read: set[str]) -> bool:
    """Does nothing but assign to plain names, none of them in `read`."""
    if isinstance(statement, (ast.Pass, ast.Assert)):
        return True
    if isinstance(statement, ast.If):
        return all(_harmless(child, read) for child in [*statement.body, *statement.orelse])
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return False
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    flat = [t for target in targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return all(isinstance(target, ast.Name) and target.id not in read for target in flat)


def _other_than(name: str, left: ast.expr, right: ast.expr) -> ast.expr | None:
    """The other summand, if one is exactly `name` and the other does not mention it and is no literal."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, ast.Name) and one.id == name:
            return None if name in _names(other) or isinstance(other, ast.Constant) else other
    return None


def _is_relu(callee: object) -> bool:
    if isinstance(callee, ops.ReLU) or callee is ops.relu:
        return True
    try:
        return isinstance(callee, nn.ReLU) and is_relu(callee)
    except UnsupportedCellError:
        return False


def _called(callee: object) -> str:
    return describe(callee) if isinstance(callee, nn.Cell) else getattr(callee, "__name__", type(callee).__name__)
