"""Arrays out of pickles without unpickling: the file is read as a list of instructions, of which none is carried out.

A pickle is a program: loading one may run anything. Here its instructions are gone through by `pickletools`, and only
those that build plain values (numbers, text, bytes, tuples, lists, dictionaries) have an effect. Where one asks for a
class or a function, a `Named` with its name is put down instead, and calling it gives a `Call`: nothing is imported,
and nothing runs. `array_of` then reads those that describe a NumPy array.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ReadError

_MOST_INSTRUCTIONS: Final = 50_000_000


@dataclass(frozen=True)
class Named:
    """A class or function that a pickle asks for, by name only."""

    module: str
    name: str


@dataclass(eq=False)
class Call:
    """What a pickle would call, and the state it would set afterwards."""

    function: Any
    arguments: Any
    state: Any = field(default=None)


class _Mark:
    """Where a list of items begins on the stack."""


def parse(file: BinaryIO) -> Any:
    """Return what a pickle describes, without running it.

    Raises
    ------
    ReadError
        If it is none, or uses instructions that plain data has no need of.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > _MOST_INSTRUCTIONS:
                raise ReadError("it has too many parts")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ReadError(f"it is damaged ({error})") from error
    raise ReadError("it ends too early")


def array_of(value: Any) -> npt.NDArray[Any] | None:
    """Make the array that a description stands for; None where it is no description of one of numbers.

    Raises
    ------
    ReadError
        If its bytes do not fit its shape.
    """
    if not isinstance(value, Call) or not isinstance(value.function, Named):
        return None
    if value.function.name == "_frombuffer" and len(value.arguments) == 4:  # from protocol 5 on
        data, kind, shape, order = value.arguments
        fortran = order == "F"
    elif value.function.name == "_reconstruct" and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, kind, fortran, data = value.state
    else:
        return None
    dtype = _dtype_of(kind)
    data = _bytes_of(data)
    if dtype is None or data is None or not all(isinstance(n, int) and n >= 0 for n in shape):
        return None
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize != len(data):
        raise ReadError(f"an array of shape {shape} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _dtype_of(value: Any) -> np.dtype[Any] | None:
    if not isinstance(value, Call) or value.function != Named("numpy", "dtype") or not value.arguments:
        return None
    code = value.arguments[0]
    if not isinstance(code, str) or code[:1] not in "buif" or not code[1:].isdigit():
        return None
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "|"
    return np.dtype(f"{order}{code}" if order in ("<", ">") else code)


def _bytes_of(value: Any) -> bytes | None:
    if isinstance(value, Call) and value.function == Named("_codecs", "encode"):  # of protocol 2: latin-1 text
        text, *_ = value.arguments
        return text.encode("latin-1") if isinstance(text, str) else None
    return bytes(value) if isinstance(value, bytes | bytearray) else None


class _Machine:
    """The stack that the instructions of a pickle work on."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self._stack.pop()

    def step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _PLAIN:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[int(argument)])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[int(argument)] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        else:
            action = _ACTIONS.get(name)
            if action is None:
                raise ReadError(f"it uses '{name}', which data has no need of")
            action(self, argument)

    def _items(self) -> list[Any]:
        """Take all items down to the mark."""
        items: list[Any] = []
        while not isinstance(top := self._stack.pop(), _Mark):
            items.append(top)
        return items[::-1]

    def _drop(self) -> None:
        self._items()

    def _tuple(self, count: int) -> None:
        items = [self._stack.pop() for _ in range(count)][::-1]
        self._stack.append(tuple(items))

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            return
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(key, str | int | float | bytes | bool | None.__class__):
                target[key] = value

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)

    def _last(self, count: int) -> list[Any]:
        return [self._stack.pop() for _ in range(count)][::-1]

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(Call(function, arguments))

    def _build(self) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Call):
            self._stack[-1].state = state

    def _named(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Named(module, name))

    def _named_on_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(Named(str(module), str(name)))


_IGNORED: Final = frozenset({"PROTO", "FRAME"})
_PLAIN: Final = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8",
})  # fmt: skip
_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict, "EMPTY_SET": list, "MARK": _Mark,
}  # fmt: skip
_ACTIONS: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "POP": lambda m, _: m.pop(),
    "POP_MARK": lambda m, _: m._drop(),
    "TUPLE": lambda m, _: m._stack.append(tuple(m._items())),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "LIST": lambda m, _: m._stack.append(m._items()),
    "APPEND": lambda m, _: m._extend(m._last(1)),
    "APPENDS": lambda m, _: m._extend(m._items()),
    "ADDITEMS": lambda m, _: m._extend(m._items()),
    "SETITEM": lambda m, _: m._set(m._last(2)),
    "SETITEMS": lambda m, _: m._set(m._items()),
    "GLOBAL": lambda m, argument: m._named(argument),
    "STACK_GLOBAL": lambda m, _: m._named_on_stack(),
    "REDUCE": lambda m, _: m._call(),
    "NEWOBJ": lambda m, _: m._call(),
    "BUILD": lambda m, _: m._build(),
}
