"""A volume larger than memory, sparse on the disk, propagated by several processes: time, memory, and the same labels.

``make`` writes an OME-Zarr of slices of which a few, evenly spread, show something; chunks of all others are missing,
which zarr reads as 0. ``run`` propagates onto it and prints a line of JSON: seconds, the most memory that any
worker has had, and a hash of all labels. ``--kill`` kills a worker half-way::

    python benchmarks/speed/cluster.py make volume --gib 16 --shown 16
    python benchmarks/speed/cluster.py run volume --workers 2 --kill
    python benchmarks/speed/cluster.py run volume --workers 0        # one process without a cluster
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import tifffile
import zarr

_CHUNK = 512
_TAUGHT = 256
GIB = 2**30


def texture(side: int, seed: int) -> np.ndarray:
    """(side, side) float32: blobs of about 30 pixels, their brightness, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    a, b = rng.uniform(10, 16, 2)
    blobs = np.sin(y / a) * np.sin(x / b)
    return (np.where(blobs > 0.4, 1600, 400) + 200 * rng.random((side, side))).astype(np.float32)


def make(folder: Path, gib: float, side: int, shown: int) -> None:
    """Write the volume and an image with its mask to learn from."""
    slices = max(shown, round(gib * GIB / (4 * side * side)))
    group = zarr.open_group(folder / "volume.ome.zarr", mode="w", zarr_format=2)
    shape = (slices, side, side)
    array = group.create_array("0", shape=shape, chunks=(1, _CHUNK, _CHUNK), dtype=np.float32, fill_value=0)
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    for number in range(shown):
        array[(2 * number + 1) * slices // (2 * shown)] = texture(side, number)
    image = texture(_TAUGHT, shown)
    tifffile.imwrite(folder / "taught.tif", image)
    tifffile.imwrite(folder / "taught_mask.tif", (image > 1100).astype(np.uint8))
    told = {"gib": array.nbytes / GIB, "shape": shape, "shown": shown, "gib_on_disk": on_disk(folder) / GIB}
    print(json.dumps(told))


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def run(folder: Path, workers: int, kill: bool, out: Path) -> None:
    """Propagate, watching the memory of all processes."""
    code = "from napari_fewshot.cli import main; main()"
    shot = ["--shot", str(folder / "taught.tif"), str(folder / "taught_mask.tif")]
    command = [sys.executable, "-c", code, "propagate", str(folder / "volume.ome.zarr"), *shot, "--out", str(out)]
    command += ["--format", "ome-zarr", "--device", "cpu", "--threads", "1", "--features-gib", "0", "--json"]
    command += ["--cluster", f"local:{workers}"] if workers else []
    begun = time.perf_counter()
    first = 0.0
    peaks: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            event = json.loads(line)
            if event["event"] != "frame":
                continue
            first = first or time.perf_counter()
            peaks |= {pid: peak for pid, peak in memory_of(child.pid) if (pid == child.pid) == (workers == 0)}
            if kill and event["done"] == event["total"] // 2:
                kill = False
                os.kill(max(peaks, key=lambda pid: peaks[pid] if psutil.pid_exists(pid) else 0), signal.SIGKILL)
    if child.returncode:
        raise SystemExit(child.returncode)
    end = time.perf_counter()
    told = {"workers": workers, "seconds": end - begun, "seconds_from_first_frame": end - first}
    told |= {"most_gib": max(peaks.values()) / GIB, "labels": digest(out)}
    print(json.dumps(told))


def memory_of(pid: int) -> Iterator[tuple[int, int]]:
    """Every process below one, itself included, and the most memory that it has had, in bytes."""
    with suppress(psutil.NoSuchProcess):
        main = psutil.Process(pid)
        for process in (main, *main.children(recursive=True)):
            with suppress(OSError, IndexError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                yield process.pid, int(status.partition("VmHWM:")[2].split()[0]) * 1024


def digest(out: Path) -> str:
    """Hash the names and contents of all that was written."""
    made = hashlib.blake2b(digest_size=8)
    for path in sorted(out.rglob("*")):
        if path.is_file() and ".napari-fewshot" not in path.parts:
            made.update(str(path.relative_to(out)).encode() + b"\0" + path.read_bytes())
    return made.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    making, running = verbs.add_parser("make"), verbs.add_parser("run")
    for each in (making, running):
        each.add_argument("folder", type=Path)
    making.add_argument("--gib", type=float, default=16)
    making.add_argument("--side", type=int, default=2048)
    making.add_argument("--shown", type=int, default=16, help="slices that show something")
    running.add_argument("--workers", type=int, default=2, help="0: one process, without a cluster")
    running.add_argument("--kill", action="store_true", help="kill a worker half-way")
    running.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.verb == "make":
        make(asked.folder, asked.gib, asked.side, asked.shown)
    else:
        run(asked.folder, asked.workers, asked.kill, asked.out or asked.folder / f"labels-{asked.workers}")


if __name__ == "__main__":
    main()
