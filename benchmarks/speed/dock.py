"""How quickly the dock answers, alone and while proposals for 200 slices are made, in seconds.

    python benchmarks/speed/dock.py --json build/dock.json

Each thing that a person does counts until it is on screen, with what arrives meanwhile. "work" is what the window's own
thread computed for it; the rest is waiting for whatever draws, and for processors and locks that others have. It needs
a display; on a server:

    xvfb-run -a -s "-screen 0 1920x1200x24" python benchmarks/speed/dock.py
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtWidgets import QApplication
from skimage.draw import disk

from napari_fewshot.session import Session
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.dock import FewShotDock

SLICES = 200
PAUSE = 0.02
"""Seconds between two actions, quicker than anybody's hand."""
_ARRIVES = "what arrives"


def disks(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 200 slices with a disk that runs around (Z, Y, X), and where it is."""
    rng = np.random.default_rng(0)
    truth = np.zeros((5, size, size), bool)
    for z in range(5):
        truth[z][disk((size * (0.3 + 0.06 * z), size * (0.35 + 0.05 * z)), size * 0.19)] = True
    image = np.where(truth, 170, 50) + rng.normal(0, 8, truth.shape)
    order = list(islice(cycle(range(5)), SLICES))
    return image.clip(0, 255).astype(np.uint8)[order], truth[order]


def actions(viewer: Any, dock: FewShotDock) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what a person does, again and again, each with its name."""
    controller, proposals = dock.controller, viewer.layers["disks proposals"]
    for z in cycle(range(1, SLICES, 7)):
        yield "slider", lambda z=z: viewer.dims.set_current_step(0, z)
        yield "stroke", lambda z=z: proposals.paint((z, 8, 8), 1)
        yield "stroke undone", proposals.undo
        yield "next to review", controller.next_to_review
        yield "uncertainty", controller.show_uncertainty
        yield "previous", controller.go_back


@dataclass(frozen=True)
class Answer:
    """How long something took.

    Attributes
    ----------
    seconds
        Until it was on screen.
    work
        Seconds for which the thread of the window computed.
    """

    seconds: float
    work: float


def begin(viewer: Any, dock: FewShotDock, size: int) -> Callable[[], bool]:
    """Teach a disk and propose for all other slices; returns, once the first is there, whether the run goes on."""
    image, truth = disks(size)
    viewer.add_image(image, name="disks")
    viewer.dims.set_point(0, 0)
    dock.controller.paint()
    viewer.layers["disks labels"].data[0] = truth[0]
    dock.controller.teach()
    dock.controller.propose()
    session = dock.controller.session
    while not session.review_queue():  # how long a run takes to begin is another question
        QApplication.processEvents()
    return lambda: len(session.review_queue()) < SLICES - 1


def measure(viewer: Any, dock: FewShotDock, goes_on: Callable[[], bool]) -> dict[str, list[Answer]]:
    """Act as long as something goes on; returns how long each action took, and what else the window did."""
    taken: dict[str, list[Answer]] = {}

    def time_of(name: str, act: Callable[[], object]) -> None:
        begun, work = time.perf_counter(), time.thread_time()
        act()
        QApplication.processEvents()
        taken.setdefault(name, []).append(Answer(time.perf_counter() - begun, time.thread_time() - work))

    for name, act in actions(viewer, dock):
        if not goes_on():
            return taken
        time_of(name, act)
        time_of(_ARRIVES, lambda: None)
        time.sleep(PAUSE)
    raise AssertionError("a person never has enough")


def in_numbers(taken: dict[str, list[Answer]]) -> dict[str, dict[str, float]]:
    """Sum up in seconds: how often, median, 95th percentile, longest, 95th percentile of the window's own work."""
    rows = {**taken, "all actions": [answer for name, each in taken.items() if name != _ARRIVES for answer in each]}
    return {
        name: {
            "times": len(each),
            "median": float(np.median([answer.seconds for answer in each])),
            "p95": float(np.percentile([answer.seconds for answer in each], 95)),
            "longest": max(answer.seconds for answer in each),
            "work": float(np.percentile([answer.work for answer in each], 95)),
        }
        for name, each in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=256, help="height and width of the slices")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    viewer = napari.Viewer()
    dock = FewShotDock(viewer, Session(classes=[LabelClass(1, "cell")]))
    viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    goes_on = begin(viewer, dock, given.size)
    during = measure(viewer, dock, goes_on)
    while dock.is_busy:
        QApplication.processEvents()
    end = time.perf_counter() + 10
    alone = measure(viewer, dock, lambda: time.perf_counter() < end)
    found = {"during": in_numbers(during), "alone": in_numbers(alone)}
    for when, rows in found.items():
        print(f"| {when} | times | median | 95 % | longest | work, 95 % |\n|---|---|---|---|---|---|")
        for name, row in rows.items():
            figures = " | ".join(f"{row[column]:.3f}" for column in ("median", "p95", "longest", "work"))
            print(f"| {name} | {row['times']} | {figures} |")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1), "utf-8")
    viewer.close()


if __name__ == "__main__":
    main()
