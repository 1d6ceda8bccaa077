"""One propagation over a lazily made stack in a process of its own: what it takes of time, memory and disk.

``python large_stack.py SLICES SIDE BACKBONE DEVICE [--disk]`` prints a line of JSON. With ``--disk`` features go to a
folder that is removed afterwards, with the limits that users have by default.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
from workload import as_tensor, forward, make_backbone, make_segmenter, mask, seconds, texture

from napari_fewshot import Frame, Shot, SupportSet, propagate
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.cache_settings import GIB, CacheSettings

_BARE = 3
"""Images that the bare backbone is timed on, after memory was measured."""

_CHUNK = 2048
"""Side of what is made at once."""


def lazy_stack(slices: int, side: int) -> da.Array:
    """(slices, side, side) uint16; a part is made when it is read, from one texture shifted about."""
    piece = min(side, 512)
    tile = 16 * texture(piece, 0).astype(np.uint16)
    edges = [min(_CHUNK, side - start) for start in range(0, side, _CHUNK)]

    def one(block_id: tuple[int, ...]) -> np.ndarray:
        height, width = edges[block_id[1]], edges[block_id[2]]
        rng = np.random.default_rng(block_id)
        shifted = np.roll(tile, tuple(rng.integers(0, piece, 2)), (0, 1))
        grain = np.tile(shifted, (-(-height // piece), -(-width // piece)))[:height, :width]
        return (grain + rng.integers(0, 64, (height, width), np.uint16))[None]

    chunks = ((1,) * slices, tuple(edges), tuple(edges))
    return da.map_blocks(one, chunks=chunks, dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))


def peak_gib() -> float:
    """Most memory that this process has had, in GiB."""
    try:  # `ru_maxrss` of Linux counts what the parent had as well
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / GIB
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB


def measure(slices: int, side: int, backbone: str, device: str, folder: str | None) -> dict[str, object]:
    """Propagate from the first slice, or a piece of it, to all others."""
    stack = lazy_stack(slices + 1, side)
    settings = CacheSettings(disk_gib=0) if folder is None else CacheSettings(folder=Path(folder))
    cache = FeatureCache.from_settings(settings)
    made = make_backbone(backbone)
    segmenter = make_segmenter(made, device, cache)
    idle = peak_gib()
    taught = min(side, _CHUNK)
    support = SupportSet([Shot(Frame(("stack", 0), stack[0, :taught, :taught]), mask(taught, 0))])
    frames = (Frame(("stack", z), stack[z]) for z in range(1, slices + 1))
    peaks, start = [], time.perf_counter()
    ends = []
    for _ in propagate(segmenter, support, frames):
        ends.append(time.perf_counter() - start)
        peaks.append(peak_gib())
    cache.flush()
    usage = cache.usage()
    peak = peak_gib()
    image = as_tensor(stack[0, :taught, :taught].compute(), device)
    bare = [seconds(lambda: forward(made, image)) * (side / taught) ** 2 for _ in range(_BARE)]
    return {
        "slices": slices,
        "side": side,
        "backbone": backbone,
        "seconds_per_slice": ends[-1] / slices,
        "seconds_per_slice_first_half": ends[(slices - 1) // 2] / ((slices + 1) // 2),
        "seconds_bare": float(np.median(bare)),
        "idle_gib": idle,
        "peak_gib": peak,
        "peak_gib_first_half": peaks[(slices - 1) // 2],
        "disk_gib": usage.disk_bytes / GIB if folder else 0.0,
    }


def main(slices: str, side: str, backbone: str, device: str, disk: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(int(slices), int(side), backbone, device, folder if disk else None)))


if __name__ == "__main__":
    main(*sys.argv[1:5], disk="--disk" in sys.argv)
