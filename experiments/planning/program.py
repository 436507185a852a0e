"""Counts what a traced program does: arithmetic, memory traffic and kernels, without compiling it.

XLA's own analysis counts the body of a loop once. Here it counts as often as the loop runs, which
for flows and states, whose steps and frames are scanned, is nearly all of the work.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend import core

_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # the parameters that hold a called program
_NARROW, _MEDIUM = 32, 128  # smallest dimensions of products; below them these are slower
_LOOPS = ("scan", "while", "cond")  # primitives with programs of their own, which are not inlined
# Primitives that read operands from memory and write results there; names that begin so.
_OPAQUE = ("dot_general", "conv_general", "sort", "scatter", "gather", "psum", "cum", *_LOOPS)
_REDUCTIONS = ("reduce", "arg")  # they write results, but operations before them are fused in
_WINDOWS = ("gather", "dynamic_slice", "slice")  # they read no more than they return
_TRANSCENDENTAL = frozenset(
    "exp exp2 expm1 log log1p logistic tanh sin cos tan erf erfc erf_inv pow rsqrt sqrt cbrt "
    "atan2 lgamma digamma".split()
)
_MOVES = frozenset(
    "broadcast_in_dim reshape transpose slice dynamic_slice dynamic_update_slice concatenate pad "
    "squeeze expand_dims rev iota copy copy_p convert_element_type bitcast_convert_type "
    "stop_gradient gather split platform_index axis_index random_wrap random_unwrap sort".split()
)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a program does; all numbers are of one call on one device.

    Attributes:
        product_flop: operations of matrix products and convolutions in float32, a multiply-add
            counted as two.
        low_product_flop: the same of those in 16 bits.
        medium_flop: the part of both in products whose smallest dimension is below 128.
        narrow_flop: the part of both in products whose smallest dimension is below 32.
        elementwise: results of other arithmetic, and elements that reductions read.
        windows: numbers that are put together, as the windows of convolutions on CPU: results of
            concatenations of channels, and of paddings.
        transcendental: results of exponentials, logarithms and the like.
        traffic: bytes that kernels read and write, where neighbouring elementwise operations are
            one kernel.
        kernels: how many are started at least: products, convolutions, reductions, sorts, scatters
            and gathers. Kernels of elementwise operations between them are not counted.
    """

    product_flop: float = 0.0
    low_product_flop: float = 0.0
    medium_flop: float = 0.0
    narrow_flop: float = 0.0
    elementwise: float = 0.0
    windows: float = 0.0
    transcendental: float = 0.0
    traffic: float = 0.0
    kernels: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        """Returns the work of both."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Work(*(a + b for a, b in pairs))

    def times(self, count: float) -> "Work":
        """Returns the work of so many repetitions."""
        return Work(*(count * value for value in dataclasses.astuple(self)))

    @property
    def flop(self) -> float:
        """All operations but transcendental ones, as XLA's cost analysis counts them."""
        return self.product_flop + self.low_product_flop + self.elementwise


class _Operation(NamedTuple):
    """A primitive whose operands and results are numbered values; None for literals."""

    name: str
    equation: Any
    operands: list[int | None]
    results: list[int]


class _Inlined:
    """The operations of a program, those of the functions that it calls among them."""

    def __init__(self, jaxpr: Any, platform: str) -> None:
        self.platform = platform
        self.operations: list[_Operation] = []
        self.avals: list[Any] = []  # of each value
        self.inputs = [self._new(v) for v in [*jaxpr.constvars, *jaxpr.invars]]
        self.outputs = self._read(jaxpr, self.inputs)
        self._drop_unused()

    def _drop_unused(self) -> None:
        """Drops operations whose results nothing needs, as XLA does."""
        needed, kept = set(self.outputs), []
        for operation in reversed(self.operations):
            if needed.intersection(operation.results):
                needed.update(operation.operands)
                kept.append(operation)
        self.operations = kept[::-1]

    def _new(self, variable: Any) -> int:
        self.avals.append(variable.aval)
        return len(self.avals) - 1

    def _read(self, jaxpr: Any, inputs: Sequence[int | None]) -> list[int | None]:
        """Adds the operations of a program, and returns its outputs."""
        values: dict[Any, int | None] = {}
        values.update(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

        def of(variable: Any) -> int | None:
            return None if isinstance(variable, core.Literal) else values[variable]

        for equation in jaxpr.eqns:
            operands = [of(v) for v in equation.invars]
            called = self._called(equation)
            if called is None:
                results: list[Any] = [self._new(v) for v in equation.outvars]
                name = equation.primitive.name
                self.operations.append(_Operation(name, equation, operands, results))
            else:
                inner = called.jaxpr if isinstance(called, core.ClosedJaxpr) else called
                constants = [self._new(v) for v in inner.constvars]
                of_call = operands[1:] if equation.primitive.name == "cond" else operands
                results = self._read(inner, [*constants, *of_call])
            values.update(zip(equation.outvars, results, strict=True))
        return [of(v) for v in jaxpr.outvars]

    def _called(self, equation: Any) -> Any:
        """Returns the program that an operation calls once, if it is such a call."""
        params = equation.params
        if params.get("branches_platforms"):
            for platforms, branch in zip(
                params["branches_platforms"], params["branches"], strict=True
            ):
                if platforms is None or self.platform in platforms:
                    return branch
        if equation.primitive.name in _LOOPS:
            return None
        return next((params[name] for name in _CALLED if name in params), None)


def count(jaxpr: Any, platform: str, trips: float = 1) -> Work:
    """Returns the work of a program.

    Args:
        jaxpr: the program.
        platform: for which it is lowered ("cpu", "cuda"): of code that depends on it, that branch
            counts.
        trips: how often a loop runs whose number of iterations is not known before it runs.
    """
    inlined = _Inlined(jaxpr, platform)
    total = Work(traffic=_traffic(inlined))
    for operation in inlined.operations:
        total += _of_operation(operation, platform, trips)
    return total


def _of_operation(operation: _Operation, platform: str, trips: float) -> Work:
    """Returns the arithmetic and the kernels of an operation, and all the work of a loop."""
    name, equation, params = operation.name, operation.equation, operation.equation.params
    if name == "scan":
        return count(params["jaxpr"].jaxpr, platform, trips).times(params["length"])
    if name == "while":
        parts = (params["cond_jaxpr"], params["body_jaxpr"])
        return sum((count(p.jaxpr, platform, trips) for p in parts), Work()).times(trips)
    if name == "cond":
        branches = [count(b.jaxpr, platform, trips) for b in params["branches"]]
        return max(branches, key=lambda work: (work.flop, work.traffic))
    result = equation.outvars[0].aval
    if name == "dot_general":
        return _products(result, *_sides_of_product(equation))
    if name == "conv_general_dilated":
        return _products(result, *_sides_of_convolution(equation))
    kernels = float(name.startswith((*_OPAQUE, *_REDUCTIONS)))
    if name == "pad" or (name == "concatenate" and params["dimension"] == result.ndim - 1):
        return Work(windows=float(math.prod(result.shape)))
    if name in _MOVES or not operation.operands or not hasattr(result, "shape"):
        return Work(kernels=kernels)
    reads = name.startswith((*_REDUCTIONS, "scatter"))
    size = math.prod(equation.invars[-1 if name.startswith("scatter") else 0].aval.shape)
    elements = float(size if reads else math.prod(result.shape))
    if name in _TRANSCENDENTAL:
        return Work(transcendental=elements, kernels=kernels)
    return Work(elementwise=elements, kernels=kernels)


def _products(result: Any, rows: int, columns: int, summed: float) -> Work:
    """Returns the work of matrix products whose results have so many numbers in all.

    Args:
        result: their shape and type, with those of all products of a batch.
        rows: of a product's result.
        columns: of a product's result.
        summed: products that are summed in each number.
    """
    flop = 2.0 * math.prod(result.shape) * summed
    smallest = min(rows, columns, summed)
    of_type = "low_product_flop" if result.dtype.itemsize < 4 else "product_flop"
    of_size = {"medium_flop": flop * (_NARROW <= smallest < _MEDIUM)}
    of_size["narrow_flop"] = flop * (smallest < _NARROW)
    return Work(**{of_type: flop}, **of_size, kernels=1)


def _sides_of_product(equation: Any) -> tuple[int, int, int]:
    """Returns rows, columns and summed products of a `dot_general`."""
    contracted, batch = equation.params["dimension_numbers"]
    free = [
        math.prod(n for axis, n in enumerate(v.aval.shape) if axis not in (*c, *b))
        for v, c, b in zip(equation.invars, contracted, batch, strict=True)
    ]
    return free[0], free[1], math.prod(equation.invars[0].aval.shape[a] for a in contracted[0])


def _sides_of_convolution(equation: Any) -> tuple[int, int, float]:
    """Returns the same of a convolution, as a product of windows of pixels and the kernel."""
    params, result = equation.params, equation.outvars[0].aval
    kernel, numbers = equation.invars[1].aval.shape, params["dimension_numbers"]
    channels = kernel[numbers.rhs_spec[0]]
    # Zeros between the inputs of a strided convolution's gradient are not multiplied.
    window = math.prod(kernel) / channels / math.prod(params["lhs_dilation"])
    return math.prod(result.shape) // channels, channels, window


def _bytes(aval: Any) -> float:
    if not hasattr(aval, "shape"):
        return 0.0
    return float(math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 4))


def _traffic(inlined: _Inlined) -> float:
    """Returns the bytes that the kernels of a program read and write, loops' bodies excepted.

    A value is in memory if it is an input, an output, or an operand or result of an operation that
    is not fused. It is written once, and read once by each such operation and once by all that is
    fused.
    """
    made = {r: o for o in inlined.operations for r in o.results}
    readers: Counter[int] = Counter()
    fused_readers: set[int] = set()
    written: set[int] = {v for v in inlined.outputs if v is not None and v in made}
    inputs, total = set(inlined.inputs), 0.0
    for operation in inlined.operations:
        known = [v for v in operation.operands if v is not None]
        opaque = operation.name.startswith(_OPAQUE)
        if operation.name in _WINDOWS and known:
            total += _bytes(operation.equation.outvars[0].aval) * (known[0] in inputs)
            known = known[1:]
        if operation.name in _LOOPS:
            continue  # the body reads and writes
        if opaque:
            readers.update(known)
            written.update(v for v in known if v in made)
        else:
            fused_readers.update(known)
        if opaque or operation.name.startswith(_REDUCTIONS):
            written.update(operation.results)
    stored = written | inputs
    total += sum(_bytes(inlined.avals[v]) for v in written)
    total += sum(_bytes(inlined.avals[v]) * times for v, times in readers.items())
    return total + sum(_bytes(inlined.avals[v]) for v in fused_readers & stored)
