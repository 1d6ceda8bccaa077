"""How fast everything is, as ratios within one run: ``python benchmarks/speed/run.py [--quick] [--json FILE]``.

Prints one table and draws one plot. What is compared is done in turns, frame by frame, so that a busy machine slows
both sides down alike; figures are medians of several rounds. Needs the extra ``bench``.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peer import Peer
from report import draw, table
from workload import BACKBONES, Job, as_tensor, forward, make_backbone, make_segmenter, seconds

from napari_fewshot import SupportSet, propagate
from napari_fewshot.models.devices import choose_device
from napari_fewshot.models.feature_segmenter import FeatureSegmenter

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Plan:
    """How much to measure: ``stack`` and the others are (slices, side)."""

    frames: int = 40
    side: int = 512
    rounds: int = 3
    peer_frames: int = 10
    corrections: int = 7
    stack: tuple[int, int] = (200, 2048)
    more_frames: tuple[tuple[int, int], ...] = ((10, 512), (40, 512), (160, 512))
    larger_frames: tuple[tuple[int, int], ...] = ((4, 256), (4, 512), (4, 1024), (4, 2048))
    starts: int = 5
    image: int = 0
    """Side of a large 2D image; 0 for none."""


FULL = Plan()
QUICK = Plan(10, 512, 1, 2, 3, (8, 2048), ((5, 512), (20, 512)), ((2, 256), (2, 512), (2, 1024)), 3)
TINY = Plan(2, 64, 1, 1, 1, (2, 64), ((2, 64),), ((1, 64),), 1)


def measure(plan: Plan, device: str, threads: int) -> dict[str, Any]:
    """Return everything that was found out."""
    job = Job.of(plan.frames, plan.side)
    backbones = {name: propagation(job, name, plan, device) for name in BACKBONES}
    ours = backbones["resnet18"]
    stack = in_own_process(*plan.stack, "mica", device, threads, "--disk")
    image = in_own_process(1, plan.image, "mica", device, threads, "--disk") if plan.image else None
    dock, dock_reason = dock_seconds(plan.starts)
    return {
        "cold_over_backbone": ours["cold_over_backbone"],
        "warm_over_cold": ours["warm_over_cold"],
        "visible_ms": max(found["visible_ms"] for found in backbones.values()),
        "cold_over_peer": cold_over_peer(job, plan, device, threads),
        "peak_gib": stack["peak_gib"],
        "disk_gib": stack["disk_gib"],
        "import_s": import_seconds(plan.starts),
        "dock_s": dock,
        "dock_reason": dock_reason,
        "frames_per_second": ours["frames_per_second"],
        "share_in_backbone": 1 / ours["cold_over_backbone"],
        "backbones": backbones,
        "stack": stack,
        "image": image,
        "growth_with_frames": [in_own_process(n, s, "resnet18", device, threads) for n, s in plan.more_frames],
        "growth_with_side": [in_own_process(n, s, "resnet18", device, threads) for n, s in plan.larger_frames],
    }


# ---------------------------------------------------------------------------- propagation
def propagation(job: Job, backbone: str, plan: Plan, device: str) -> dict[str, float]:
    """Time a first propagation against the bare backbone, then what follows a correction, when features are known."""
    made = make_backbone(backbone)
    tensors = [as_tensor(image, device) for image in job.images]
    segmenter = make_segmenter(made.to(device), device)
    forward(made, tensors[0])  # the first of all is slower: memory is taken, kernels are chosen
    segmenter.learn(SupportSet([job.shot(0)])).propose(job.frames[0])
    bare, cold, warm, visible = [], [], [], []
    for change in range(plan.rounds):
        segmenter = make_segmenter(made, device)
        support = SupportSet([job.shot(0)])
        ours, theirs = 0.0, seconds(lambda: forward(made, tensors[0]))
        proposals = timed(propagate(segmenter, support, job.frames))  # the first one's time is that of learning as well
        for tensor, spent in zip(tensors[1:], proposals, strict=True):
            ours += spent
            theirs += seconds(lambda tensor=tensor: forward(made, tensor))
        bare.append(theirs)
        cold.append(ours)
        corrected = support.with_shot(job.shot(1, change))
        warm.append(sum(timed(propagate(segmenter, corrected, job.frames[1:]))) * plan.frames / (plan.frames - 1))
        visible += [visible_seconds(segmenter, job, change) for change in range(1, 1 + plan.corrections)]
    return {
        "bare_ms": 1000 * median(bare) / len(tensors),
        "cold_ms": 1000 * median(cold) / plan.frames,
        "warm_ms": 1000 * median(warm) / plan.frames,
        "visible_ms": 1000 * median(visible),
        "cold_over_backbone": median(c / b for c, b in zip(cold, bare, strict=True)),
        "warm_over_cold": median(w / c for w, c in zip(warm, cold, strict=True)),
        "frames_per_second": plan.frames / median(cold),
    }


def visible_seconds(segmenter: FeatureSegmenter, job: Job, change: int) -> float:
    """Time from a stroke's end to new labels of the frame it was painted on, which was corrected before."""
    segmenter.learn(SupportSet([job.shot(0), job.shot(1, change - 1)]))
    support = SupportSet([job.shot(0), job.shot(1, change)])
    return seconds(lambda: segmenter.learn(support).propose(job.frames[0]))


def timed(items: Iterator[Any]) -> Iterator[float]:
    """Seconds that each item takes."""
    while True:
        start = time.perf_counter()
        if next(items, None) is None:
            return
        yield time.perf_counter() - start


def cold_over_peer(job: Job, plan: Plan, device: str, threads: int) -> float:
    """Time from images to labels over that of the peer, defaults against defaults, on the same frames and shot."""
    frames = job.frames[: plan.peer_frames]
    segmenter = make_segmenter(make_backbone("mica"), device)
    peer = Peer(threads)
    ours, theirs = 0.0, seconds(lambda: peer.learn(job.images[0], job.masks[0]))
    proposals = timed(propagate(segmenter, SupportSet([job.shot(0)]), frames))
    for frame, spent in zip(frames, proposals, strict=True):
        ours += spent
        theirs += seconds(lambda frame=frame: peer.propose(frame.image))
    return ours / theirs


# ---------------------------------------------------------------------------- other processes
def in_own_process(slices: int, side: int, backbone: str, device: str, threads: int, *more: str) -> dict[str, Any]:
    """Run ``large_stack.py``: how much memory something takes shows in a process that does nothing else."""
    words = [str(HERE / "large_stack.py"), str(slices), str(side), backbone, device, *more]
    done = run_python(words, {"OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def import_seconds(starts: int) -> float:
    """Seconds of ``import napari_fewshot`` in a fresh Python."""
    timed_import = "import time; s = time.perf_counter(); import napari_fewshot; print(time.perf_counter() - s)"
    return median(float(run_python(["-I", "-c", timed_import]).stdout) for _ in range(starts))


def dock_seconds(starts: int) -> tuple[float | None, str]:
    """Seconds until the dock is open in a napari that runs; None and the reason where that cannot be measured."""
    blind = sys.platform == "linux" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    within = ["xvfb-run", "-a"] if blind and shutil.which("xvfb-run") else []
    environment = {"QT_QPA_PLATFORM": "xcb" if within else "offscreen"} if blind else {}
    found = []
    for _ in range(starts):
        done = run_python([str(HERE / "open_dock.py")], environment, within)
        if done.returncode:
            return None, done.stderr.strip().rpartition("\n")[2]
        found.append(float(done.stdout.split()[-1]))
    return median(found), ""


def run_python(
    words: list[str], environment: Mapping[str, str] | None = None, within: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    command = [*(within or []), sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})


# ---------------------------------------------------------------------------- the command
def machine(device: str, threads: int) -> dict[str, Any]:
    """Describe what everything ran on."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("napari-fewshot", "torch", "numpy", "scikit-image", "scikit-learn")},
        },
    }


def cpu_name() -> str:
    """Name of the processor, as far as it tells one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", dest="plan", action="store_const", const=QUICK, help="a few minutes")
    amount.add_argument("--tiny", dest="plan", action="store_const", const=TINY, help="only to try this program")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where the plot goes (speed.png beside the JSON)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--slices", type=int, help="of the large stack; 200 take about a quarter of an hour")
    parser.add_argument(
        "--image", type=int, metavar="SIDE", help="also a 2D image, such as 20000: a quarter of an hour"
    )
    asked = parser.parse_args()
    plan = replace(asked.plan or FULL, image=asked.image or 0)
    if asked.slices:
        plan = replace(plan, stack=(asked.slices, plan.stack[1]))
    torch.set_num_threads(asked.threads)
    device = choose_device(asked.device)
    found = machine(device, asked.threads) | measure(plan, device, asked.threads)
    print(table(found))
    if found["dock_reason"]:
        print(f"The dock was not opened: {found['dock_reason']}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    draw(found, asked.plot or (asked.json.with_name("speed.png") if asked.json else Path("speed.png")))


if __name__ == "__main__":
    main()
