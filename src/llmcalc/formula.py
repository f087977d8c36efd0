"""How a formula shows itself.

A leaf formula is one small public function whose body is one return expression. Decorated with
`formula` it takes numbers or numpy arrays and returns the same, refuses 64-bit overflow, and can
print its own expression: the text is read from the function's source, so it can't drift from what
is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from llmcalc.errors import SizeOverflowError, UnknownNameError, did_you_mean

Quantity = Any
"""int, float, Fraction, or numpy array of them."""

F = TypeVar("F", bound=Callable[..., Any])

REGISTRY: dict[str, Callable[..., Any]] = {}
INT64_MAX = 2**63 - 1


def is_array(value: object) -> bool:
    """Whether a value is a numpy array (or a list, which stands for one)."""
    if type(value) is int:  # by far the most
        return False
    return isinstance(value, (list, tuple, range)) or bool(getattr(value, "ndim", 0))


def ceil_div(a: Quantity, b: Quantity) -> Quantity:
    """Quotient rounded up.

    Examples
    --------
    >>> ceil_div(7, 2)
    4
    """
    return -(-a // b)


def larger(a: Quantity, b: Quantity) -> Quantity:
    """The larger of two, elementwise for arrays.

    Examples
    --------
    >>> larger(3, 4)
    4
    """
    if is_array(a) or is_array(b):
        import numpy as np

        return np.maximum(a, b)
    return a if a >= b else b


def smaller(a: Quantity, b: Quantity) -> Quantity:
    """The smaller of two, elementwise for arrays.

    Examples
    --------
    >>> smaller(3, 4)
    3
    """
    if is_array(a) or is_array(b):
        import numpy as np

        return np.minimum(a, b)
    return a if a <= b else b


def exp(x: Quantity) -> Quantity:
    """Exponential, elementwise for arrays.

    Examples
    --------
    >>> exp(0)
    1.0
    """
    if is_array(x):
        import numpy as np

        return np.exp(x)
    return math.exp(x)


def log(x: Quantity) -> Quantity:
    """Natural logarithm, elementwise for arrays.

    Examples
    --------
    >>> log(1)
    0.0
    """
    if is_array(x):
        import numpy as np

        return np.log(x)
    return math.log(x)


def where(condition: Any, a: Quantity, b: Quantity) -> Quantity:
    """Choose by a condition, elementwise for arrays.

    Examples
    --------
    >>> where(2 > 1, 10, 20)
    10
    """
    if is_array(condition):
        import numpy as np

        return np.where(condition, a, b)
    return a if condition else b


class _Int64(int):
    """An int that refuses to grow beyond 64 bits, to try a formula before arrays run through it."""

    def _checked(self, value: Any) -> Any:
        if type(value) is int:
            if not -INT64_MAX - 1 <= value <= INT64_MAX:
                raise OverflowError
            return _Int64(value)
        return value

    def __add__(self, other: Any) -> Any:
        return self._checked(int.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        return self._checked(int.__radd__(self, other))

    def __sub__(self, other: Any) -> Any:
        return self._checked(int.__sub__(self, other))

    def __rsub__(self, other: Any) -> Any:
        return self._checked(int.__rsub__(self, other))

    def __mul__(self, other: Any) -> Any:
        return self._checked(int.__mul__(self, other))

    def __rmul__(self, other: Any) -> Any:
        return self._checked(int.__rmul__(self, other))

    def __floordiv__(self, other: Any) -> Any:
        return self._checked(int.__floordiv__(self, other))

    def __rfloordiv__(self, other: Any) -> Any:
        return self._checked(int.__rfloordiv__(self, other))

    def __neg__(self) -> Any:
        return self._checked(int.__neg__(self))


def _largest(value: Any) -> Any:
    """The scalar that makes a monotone formula largest."""
    import numpy as np

    if isinstance(value, np.ndarray):
        largest = value.max() if value.size else value.dtype.type(0)
        return _Int64(int(largest)) if value.dtype.kind in "iu" else float(largest)
    return _Int64(value) if type(value) is int else value


def _as_array(value: Any) -> Any:
    import numpy as np

    if isinstance(value, (list, tuple, range)):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "u" and value.size and value.max() > INT64_MAX:
            raise SizeOverflowError("An array value is above 2^63 - 1.", "Use smaller values.")
        return value.astype(np.int64, copy=False) if value.dtype.kind in "iu" else value
    return value


def _on_arrays(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Evaluate on int64 arrays, after the largest inputs have been tried with exact integers."""
    args = tuple(_as_array(value) for value in args)
    kwargs = {name: _as_array(value) for name, value in kwargs.items()}
    try:
        function(*map(_largest, args), **{name: _largest(value) for name, value in kwargs.items()})
    except OverflowError:
        raise SizeOverflowError(
            f"{function.__name__} overflows 64 bits for these arrays.",
            "Use smaller values, or single numbers, which are exact at any size.",
        ) from None
    return function(*args, **kwargs)


def formula(function: F) -> F:
    """Register a leaf formula and let it take arrays.

    The function must be one return expression made of ``+ - * / // **`` and the helpers of this
    module, and must grow with each argument (or at least be largest at the largest inputs in
    size), which is how 64-bit overflow of array inputs is detected.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if is_array(value):
                return _on_arrays(function, args, kwargs)
        for value in kwargs.values():
            if is_array(value):
                return _on_arrays(function, args, kwargs)
        return function(*args, **kwargs)

    # functools.wraps, less its cost at import.
    call.__name__ = function.__name__
    call.__qualname__ = function.__qualname__
    call.__doc__ = function.__doc__
    call.__module__ = function.__module__
    call.__wrapped__ = function  # type: ignore[attr-defined]
    call.__annotations__ = function.__annotations__
    REGISTRY[function.__name__] = call
    return call  # type: ignore[return-value]


def expression(function: Callable[..., Any]) -> str:
    """The return expression of a leaf formula, as its source has it.

    Examples
    --------
    >>> from llmcalc.memory.inference import weight_bytes
    >>> expression(weight_bytes)
    'ceil_div(parameters * bits, 8)'
    """
    import ast

    return ast.unparse(_return_expression(function))


def substituted(function: Callable[..., Any], values: Mapping[str, Any]) -> str:
    """The return expression with numbers in the place of names.

    Examples
    --------
    >>> from llmcalc.memory.inference import weight_bytes
    >>> substituted(weight_bytes, {"parameters": 13_000_000_000, "bits": 4})
    'ceil_div(13,000,000,000 * 4, 8)'
    """
    import ast

    class Substitute(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            value = values.get(node.id)
            return ast.copy_location(ast.Name(_shown(value)), node) if value is not None else node

    return ast.unparse(Substitute().visit(_return_expression(function)))


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if is_array(value):
        return f"[{len(value):,} values]"
    return str(value)


def _return_expression(function: Callable[..., Any]) -> Any:
    import ast
    import inspect
    import textwrap

    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    definition = ast.parse(source).body[0]
    statement = definition.body[-1]  # type: ignore[attr-defined]
    return statement.value


def get(name: str) -> Callable[..., Any]:
    """Look a registered formula up by name.

    Raises
    ------
    UnknownNameError
        If there is none, with the nearest names.
    """
    try:
        return REGISTRY[name.replace("-", "_")]
    except KeyError:
        near = did_you_mean(name, REGISTRY)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UnknownNameError(
            f"There is no formula {name!r}.", f"{hint}llmcalc explain lists all formulas."
        ) from None
