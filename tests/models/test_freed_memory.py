import ctypes

import numpy as np
import psutil
import pytest

from napari_fewshot.models import freed_memory

MIB = 1 << 20


@pytest.mark.skipif(freed_memory._trim() is int, reason="the C library is not glibc")
def test_freed_memory_is_given_back() -> None:
    process = psutil.Process()
    del (large := [np.ones(24 * MIB, np.uint8)])[:]  # from here on, what is smaller lies on the heap
    held = [np.ones(MIB, np.uint8) for _ in range(200)]
    kept = np.ones(MIB, np.uint8)
    held.clear()
    before = process.memory_info().rss
    freed_memory.give_back()
    assert before - process.memory_info().rss > 100 * MIB
    assert kept.all() and not large


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    freed_memory._trim.cache_clear()
    try:
        freed_memory.give_back()
    finally:
        freed_memory._trim.cache_clear()
