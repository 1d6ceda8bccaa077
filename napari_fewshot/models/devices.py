"""Where to compute, and what to do when there is not enough memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Final, Protocol, TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from napari_fewshot.errors import FewShotError, SettingsError


def choose_device(name: str = "auto") -> str:
    """Return the device to compute on.

    Parameters
    ----------
    name
        "auto" (cuda, else mps, else cpu), or a device that torch knows, such as "cuda:1".

    Raises
    ------
    SettingsError
        If there is no such device on this computer.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available()
        and (not number or (number.isdigit() and int(number) < torch.cuda.device_count())),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(kind, False):
        usable = ", ".join(kind for kind, there in available.items() if there)
        raise SettingsError(f"device '{name}' is not available here; choose auto or one of: {usable}")
    return name


def working_precision(device: str) -> torch.dtype:
    """Return the precision in which networks that bear it are fastest on a device.

    Half on cards of NVIDIA that have units for it (Volta, 2017, and later), single elsewhere. Not bfloat16: it has
    three bits less, and what half cannot hold is noticed.
    """
    if torch.device(device).type == "cuda" and torch.cuda.get_device_capability(torch.device(device)) >= (7, 0):
        return torch.float16
    return torch.float32


WITHOUT_DOUBLE: Final = frozenset({"mps"})
"""Kinds of devices that have no float64."""


def widest_float(device: torch.device) -> torch.dtype:
    """Return the most precise numbers that a device can compute with: double, where it has that."""
    return torch.float32 if device.type in WITHOUT_DOUBLE else torch.float64


def free_memory(device: str) -> int | None:
    """Return the bytes that can still be had on a graphics card; None for devices that share the computer's memory."""
    where = torch.device(device)
    if where.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(where)
    return free + torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)


def peak_memory(device: str, work: Callable[[], object]) -> int:
    """Do some work on a graphics card and return the bytes that it took there at the most."""
    where = torch.device(device)
    torch.cuda.reset_peak_memory_stats(where)
    before = torch.cuda.memory_allocated(where)
    work()
    return torch.cuda.max_memory_allocated(where) - before


@contextmanager
def quiet_blas() -> Iterator[None]:
    """Let the BLAS of numpy and scipy compute on one thread inside of this; for small steps in turns with torch.

    After each step the threads of either side wait busily for more to do, while the other side wants the cores: that
    can take ten times as long as the work.
    """
    with _native_libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _native_libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looks at all libraries that are loaded, which takes some ms


def moved(tree: Any, device: str) -> Any:
    """Move all tensors in dataclasses, mappings, tuples and lists to a device; what is there already stays shared."""
    if isinstance(tree, Tensor):
        return tree.to(device)
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{f.name: moved(getattr(tree, f.name), device) for f in fields(tree)})
    if isinstance(tree, Mapping):
        return {key: moved(value, device) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(moved(value, device) for value in tree)
    return tree


class Relievable(Protocol):
    """Something that can do with less memory."""

    def relieve(self) -> bool:
        """Ask for less from now on; False where nothing is left to try."""
        ...


T = TypeVar("T")


def with_relief(worker: Relievable, work: Callable[[], T]) -> T:
    """Do some work, again with less memory for as long as there is not enough.

    Raises
    ------
    FewShotError
        If there is not enough even for the least.
    """
    while True:
        try:
            return work()
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else "no more memory"
        if not worker.relieve():  # outside of `except`, whose traceback holds on to what filled the memory
            raise FewShotError(
                f"there is not enough memory for this image ({reason}); close other programs, or label a smaller part"
            )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(w in str(error).lower() for w in words)
