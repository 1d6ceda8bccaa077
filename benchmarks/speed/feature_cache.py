"""How fast features go to the disk and come back: ``python benchmarks/speed/feature_cache.py [FOLDER]``.

The features are those of one image of 1024 x 1024 pixels, 41.5 MB in half precision. What is read was written just
before, so the figure is that of the checks and copies, not of the disk.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.cache_settings import CacheSettings

ROUNDS = 9


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def pure_python() -> int:
    return sum(range(2_000_000))


def main(parent: str | None) -> None:
    channels = {2: 64, 4: 24, 8: 96, 16: 144, 32: 256}
    features = {Level(s): torch.randn(c, 1024 // s, 1024 // s).half() for s, c in channels.items()}
    pyramid = FeaturePyramid(features, (1024, 1024))
    put, written, got, alone, beside = [], [], [], [], []
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        cache = FeatureCache.from_settings(CacheSettings(memory_gib=0, folder=Path(folder)))
        for index in range(ROUNDS):
            key = str(index)
            alone.append(milliseconds(pure_python))
            put.append(milliseconds(lambda key=key: cache.put(key, pyramid)))
            written.append(put[-1] + milliseconds(cache.flush))
            got.append(milliseconds(lambda key=key: cache.get(key)))
            cache.put(f"beside {key}", pyramid)
            beside.append(milliseconds(pure_python))
            cache.flush()
        if cache.usage().entries != 2 * ROUNDS:
            raise SystemExit(f"not all was kept: {cache.notice}")
    megabytes = pyramid.nbytes / 1e6
    print(f"features of one image              {megabytes:8.1f} MB")
    print(f"put: the caller waits              {median(put):8.2f} ms")
    print(
        f"put: it is on the disk after       {median(written):8.0f} ms  {1000 * megabytes / median(written):6.0f} MB/s"
    )
    print(f"get: read and checked after        {median(got):8.0f} ms  {1000 * megabytes / median(got):6.0f} MB/s")
    print(f"Python code beside the writer takes {median(beside) / median(alone):7.2f} x its time")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
