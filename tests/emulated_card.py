"""A graphics card on a computer that has none, so that whatever forgets on which device it computes fails everywhere.

Inside `emulated_card` torch says that there is one card. A tensor on it (`OnCard`) keeps its values in the memory of
the computer and has them computed by the kernels of the CPU, but calls itself "cuda:0" and keeps the rules of one:

- operators that mix it with a tensor on the CPU raise, but for what CUDA allows: CPU tensors without dimensions in
  elementwise operators, positions on the CPU in ``x[...]``, and copies from one to the other;
- it has no ``numpy()``, and a generator of random numbers on the CPU cannot fill it;
- operators that have no kernel for CUDA raise (where torch was built with CUDA, and knows), and so do those that have
  none for whole numbers there, although they have one for the CPU;
- autocast comes into play as on a card, with the CPU's kernels for half precision; or, with ``like="apple"``, it takes
  neither that nor float64, as the graphics part of Apple's chips (but is still called "cuda");
- its memory can be made to run out (`EmulatedCard.full`).

It cannot show what real kernels compute and how fast they are, how much memory they take, their order in streams and
what has to wait for it, several cards, and anything about cuDNN, which is off. Tensors come onto the card in the thread
that entered `emulated_card` only; those that are there may be used in any.

Gradients are passed back by a loop in Python, as torch's own asks the driver of the card for its streams.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any, Final, Literal, TypeAlias
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from napari_fewshot.models import devices

CARD: Final = torch.device("cuda:0")
MEMORY: Final = 8 << 30
"""Bytes that the card says to have."""

Make: TypeAlias = Literal["nvidia", "apple"]

_aten = torch.ops.aten
_COPIES: Final = {_aten.copy_, _aten._to_copy, _aten.copy}
_INDEXING: Final = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_, _aten._unsafe_index}
_TAKES_A_NUMBER: Final = {*_INDEXING, _aten.fill, _aten.fill_, _aten.masked_fill, _aten.masked_fill_, _aten.where}
"""Beside elementwise ones: operators of CUDA that take a CPU tensor without dimensions."""

_NOT_FOR_WHOLE_NUMBERS: Final = ("mm", "mv", "dot", "convolution", "pool", "upsample", "grid_sampler", "_pad")
"""In the names of operators of which CUDA has none for whole numbers, but the CPU has."""


class OnCard(Tensor):
    """A tensor on the emulated card; ``held`` has its values."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnCard":
        made: OnCard = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=CARD,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _carried_out(func, args, dict(kwargs or {}))

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnCard({self.held})"

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {CARD} device type tensor to numpy. Use Tensor.cpu() first.")
        return self.detach().cpu().numpy()

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Go into checkpoints as a tensor on the CPU: where they come from and where they go to is not emulated."""
        return self.held.__reduce_ex__(protocol)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Take "cuda" for "cuda:0": what is there already stays the same tensor."""
        return super().to(*map(_named, args), **{key: _named(value) for key, value in kwargs.items()})


class EmulatedCard(TorchDispatchMode):
    """Makes tensors come onto the card; see `emulated_card`.

    Attributes
    ----------
    full
        Whether there is no memory left on it for one more tensor.
    has_double
        Whether it knows float64.
    """

    def __init__(self, like: Make) -> None:
        super().__init__()
        self.full = False
        self.has_double = like == "nvidia"

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _carried_out(func, args, dict(kwargs or {}), self)


_entered: list[EmulatedCard] = []


@contextmanager
def emulated_card(like: Make = "nvidia") -> Iterator[EmulatedCard]:
    """Have a graphics card, "cuda" and "cuda:0", inside of this.

    Parameters
    ----------
    like
        Whose: one with float64 and fast half precision, or one without either.

    Raises
    ------
    pytest.skip.Exception
        If torch was built without support for CUDA.

    Examples
    --------
    >>> with emulated_card():
    ...     torch.ones(3, device="cuda").sum().item()
    3.0
    """
    torch._C._ensureCUDADeviceGuardSet()  # where there is no card, changing to one does nothing
    _skip_without_cuda()
    lifting = torch._C._only_lift_cpu_tensors()
    with ExitStack() as stack:
        for name, answer in _ANSWERS.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        if like == "apple":
            stack.enter_context(patch.object(torch.cuda, "get_device_capability", lambda device=None: (6, 1)))
            stack.enter_context(patch.object(devices, "WITHOUT_DOUBLE", {CARD.type}))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(patch.object(torch.autograd, "_engine_run_backward", _passed_back))
        # `torch.tensor(..., device="cuda")` and `Module.to` would write to memory of a card, past all operators
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifting)
        stack.enter_context(patch.object(nn.Module, "_apply", _applied))
        card = stack.enter_context(EmulatedCard(like))
        _entered.append(card)
        stack.callback(_entered.remove, card)
        yield card


def _skip_without_cuda() -> None:
    """Skip the test where torch was built without any idea of cards."""
    try:
        OnCard(torch.ones(2))[1:]
    except RuntimeError as error:
        if "not linked with support" not in str(error):
            raise
        pytest.skip(f"no GPU, and a torch that cannot do as if: {error}")


_apply = nn.Module._apply


def _applied(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Let parameters become others in place, whatever their class."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return _apply(module, change, recurse)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


class _Event:
    def synchronize(self) -> None:
        pass


class _Stream:
    def record_event(self) -> _Event:
        return _Event()


_ANSWERS: Final[dict[str, Callable[..., Any]]] = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "get_device_capability": lambda device=None: (7, 5),
    "get_device_name": lambda device=None: "an emulated card",
    "mem_get_info": lambda device=None: (MEMORY, MEMORY),
    "memory_reserved": lambda device=None: 0,
    "memory_allocated": lambda device=None: 0,
    "max_memory_allocated": lambda device=None: 0,
    "reset_peak_memory_stats": lambda device=None: None,
    "empty_cache": lambda: None,
    "synchronize": lambda device=None: None,
    "current_stream": lambda device=None: _Stream(),
}
"""What `torch.cuda` says of the card."""


def _named(argument: Any) -> Any:
    return CARD if isinstance(argument, str) and argument == "cuda" else argument


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _leaves(value)
        else:
            yield value


def _changed(value: Any, kind: type[Tensor], change: Callable[[Any], Tensor]) -> Any:
    if isinstance(value, kind):
        return change(value)
    return type(value)([_changed(v, kind, change) for v in value]) if isinstance(value, tuple | list) else value


def _held(tensor: OnCard) -> Tensor:
    return tensor.held


class _Rules:
    """What is to be known of an operator."""

    def __init__(self, func: Any) -> None:
        operator, name = func.overloadpacket, func._schema.name
        self.is_made_of_others = torch._C._dispatch_has_kernel_for_dispatch_key(
            func.name(), "CompositeImplicitAutograd"
        )
        self.shares_memory = func.is_view or func._schema.is_mutable
        self.copies, self.indexes = operator in _COPIES, operator in _INDEXING
        self.takes_a_number = torch.Tag.pointwise in func.tags or operator in _TAKES_A_NUMBER
        self.changes = [i for i, a in enumerate(func._schema.arguments) if a.is_write]
        self.only_fractions = any(part in name for part in _NOT_FOR_WHOLE_NUMBERS)
        self.lacks_kernel = bool(torch.version.cuda) and not (
            torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), "CUDA")
        )


_rules = cache(_Rules)


def _carried_out(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inside: AbstractContextManager[object] | None = None
) -> Any:
    """Let the CPU do what an operator asks for, if a card could do so."""
    leaves = [*_leaves(args), *kwargs.values()]
    uses_card = any(isinstance(leaf, OnCard) for leaf in leaves)
    if not uses_card and not any(isinstance(leaf, torch.device) and leaf.type == CARD.type for leaf in leaves):
        return func(*args, **kwargs)
    rules = _rules(func)
    if rules.is_made_of_others:  # in inference mode they arrive whole
        with inside or nullcontext():
            return func.decompose(*args, **kwargs)
    wanted = kwargs.get("device")
    makes_on_card = uses_card if wanted is None else torch.device(wanted).type == CARD.type
    if uses_card and not rules.copies:
        _check_devices(func, rules, args, leaves)
    if makes_on_card:
        _check_abilities(func, rules, leaves)
    held_args = [_changed(value, OnCard, _held) for value in args]
    held_kwargs = {key: _changed(value, OnCard, _held) for key, value in kwargs.items()}
    if wanted is not None:
        held_kwargs["device"] = torch.device("cpu")
    made = func(*held_args, **held_kwargs)
    if not makes_on_card:
        return made
    if func.is_view and not args[0].is_inference():  # its views are not either, also in inference mode
        with torch.inference_mode(False):
            result = _changed(made, Tensor, OnCard)
    else:
        result = _changed(made, Tensor, OnCard)
    for tensor in _leaves([result]):
        if isinstance(tensor, OnCard):
            _check_fits(func, tensor, needs_memory=not rules.shares_memory)
    return return_and_correct_aliasing(func, args, kwargs, result) if rules.shares_memory else result


def _check_devices(func: Any, rules: _Rules, args: tuple[Any, ...], leaves: Sequence[Any]) -> None:
    """Raise as CUDA does where tensors on the card and on the CPU meet."""
    strangers = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, OnCard)]
    if not strangers:
        return
    changed = {id(args[i]) for i in rules.changes if i < len(args)}
    positions = {id(leaf) for leaf in _leaves([args[1]])} if rules.indexes and isinstance(args[0], OnCard) else set()
    for tensor in strangers:
        is_number = tensor.dim() == 0 and rules.takes_a_number and id(tensor) not in changed
        if not is_number and id(tensor) not in positions:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {CARD} and cpu! "
                f"(in {func}, a tensor {tuple(tensor.shape)} on the CPU)"
            )


def _check_abilities(func: Any, rules: _Rules, leaves: Sequence[Any]) -> None:
    """Raise where the card has no way to do it."""
    for leaf in leaves:
        if isinstance(leaf, torch.Generator):
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found '{leaf.device}' (in {func})")
    if rules.lacks_kernel:
        raise NotImplementedError(f"Could not run '{func.name()}' with arguments from the 'CUDA' backend.")
    first = next((leaf for leaf in leaves if isinstance(leaf, OnCard)), None)
    if rules.only_fractions and first is not None and not first.is_floating_point():
        raise RuntimeError(f"'{func}' is not implemented for '{first.dtype}' on CUDA")


def _check_fits(func: Any, tensor: OnCard, needs_memory: bool) -> None:
    if tensor.dtype == torch.float64 and not all(card.has_double for card in _entered):
        raise TypeError(f"Cannot convert a tensor to float64 on a device that doesn't support it (in {func})")
    if needs_memory and tensor.numel() and any(card.full for card in _entered):
        raise torch.OutOfMemoryError("CUDA out of memory: the emulated card is full")


def _passed_back(
    outputs: Sequence[Tensor],
    given: Sequence[Tensor | None],
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Tensor] = (),
    *_: object,
    **__: object,
) -> tuple[Tensor | None, ...]:
    """Do what the engine of autograd does: to the leaves, or up to some inputs."""
    assert not create_graph, "gradients of gradients are not emulated"
    ends = [get_gradient_edge(tensor) for tensor in inputs]
    sums: dict[Any, dict[int, Tensor]] = {}
    for tensor, gradient in zip(outputs, given, strict=True):
        edge = get_gradient_edge(tensor)
        _add(sums, edge.node, edge.output_nr, torch.ones_like(tensor) if gradient is None else gradient)
    nodes = _nodes(sums)
    waiting = Counter(after for node in nodes for after, _ in node.next_functions)
    ready = [node for node in sums if not waiting[node]]
    found: dict[tuple[Any, int], Tensor] = {}
    with torch.no_grad():
        while ready:
            node = ready.pop()
            known = sums.pop(node, {})
            found |= {(node, number): gradient for number, gradient in known.items()}
            stops = not known or (inputs and node.name().endswith("AccumulateGrad"))
            made = () if stops else node(*(known.get(i) for i in range(len(node._input_metadata))))
            for i, (after, number) in enumerate(node.next_functions):
                if after is None:
                    continue
                gradient = None if stops else made[i] if isinstance(made, tuple) else made
                if gradient is not None:
                    _add(sums, after, number, gradient)
                waiting[after] -= 1
                if not waiting[after]:
                    ready.append(after)
    return tuple(found.get((edge.node, edge.output_nr)) for edge in ends)


def _nodes(first: Iterable[Any]) -> set[Any]:
    """All that gradients pass on their way."""
    nodes, new = set(first), list(first)
    while new:
        after = {node for node, _ in new.pop().next_functions if node is not None} - nodes
        nodes |= after
        new += after
    return nodes


def _add(sums: dict[Any, dict[int, Tensor]], node: Any, number: int, gradient: Tensor) -> None:
    """Add a gradient to what has arrived at a node, in the shape and precision of its value."""
    about = node._input_metadata[number]
    gradient = gradient.sum_to_size(about.shape).to(about.dtype)
    known = sums.setdefault(node, {})
    known[number] = known[number] + gradient if number in known else gradient
