"""The main job from end to end, with known masks in the place of a person: teach, propose, correct, propose again."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from napari_fewshot.evaluation.instance_metrics import ObjectCounts, count_objects
from napari_fewshot.frames import FrameKey, Instances, Labels, frame_name, image_name
from napari_fewshot.imaging.overlay import (
    Panel,
    Picture,
    as_picture,
    beside,
    distinct_colours,
    enlarged,
    outlines,
    overlay,
    sheet,
)
from napari_fewshot.instances.objects import connected
from napari_fewshot.io.atomic import replacing
from napari_fewshot.io.labels import write_labels_tiff
from napari_fewshot.io.samples import Sample
from napari_fewshot.segmenter import FewShotSegmenter
from napari_fewshot.session import Session

TAUGHT_MARK = "#eab308"
CORRECTED_MARK = "#22c55e"
_REFERENCE = (255, 255, 255)
_PANEL_HEIGHT = 256  # smaller pictures are enlarged by a whole number
_COLOURS = distinct_colours(97)  # objects whose numbers differ by 97 share one, and hardly ever a border

Report = Callable[["Step"], None]


@dataclass(frozen=True)
class Step:
    """One proposal, as it arrives.

    Attributes
    ----------
    pass_number
        1 before the correction, 2 after it.
    done
        How many frames of this pass are done, this one included.
    total
        How many frames this pass has.
    key
        The frame.
    score
        Expected IoU of the proposal, 0 to 1.
    iou
        Its IoU with the known mask, mean over classes, 0 to 1.
    seconds
        From the one before; the first of a pass includes learning.
    objects
        Its objects compared with the true ones; None where objects are not told apart.
    connected
        The same if what is connected in its labels was one object.
    """

    pass_number: int
    done: int
    total: int
    key: FrameKey
    score: float
    iou: float
    seconds: float
    objects: ObjectCounts | None = None
    connected: ObjectCounts | None = None

    @property
    def f1(self) -> float | None:
        """F1 of its objects at an IoU of 0.5, 0 to 1; None where there are none."""
        return None if self.objects is None else self.objects.f1()

    @property
    def name(self) -> str:
        """The frame in words."""
        return frame_name(self.key)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out of it.

    Attributes
    ----------
    sample
        What was worked on.
    taught
        The frame whose mask was known from the start.
    corrected
        The frame with the lowest score, whose mask was put right after the first pass.
    before
        Proposals of the first pass.
    after
        Proposals of the second pass.
    labels
        (H, W) int32 in the end, of every frame.
    objects
        (H, W) int32 in the end, of every frame, one number for an object on all of them; empty where not told apart.
    """

    sample: Sample
    taught: FrameKey
    corrected: FrameKey
    before: dict[FrameKey, Step]
    after: dict[FrameKey, Step]
    labels: dict[FrameKey, Labels]
    objects: dict[FrameKey, Instances]

    @property
    def mean_iou(self) -> tuple[float, float]:
        """Mean IoU before and after the correction, of the frames that nobody taught or corrected."""
        return (
            float(np.mean([self.before[key].iou for key in self.after])),
            float(np.mean([step.iou for step in self.after.values()])),
        )

    @property
    def f1(self) -> tuple[float, float, float] | None:
        """F1 of all objects of these frames: before, after, and after if what is connected was one object."""
        then, now = [self.before[key] for key in self.after], list(self.after.values())
        counts = [step.objects for step in then], [step.objects for step in now], [step.connected for step in now]
        found = [sum((each for each in part if each is not None), ObjectCounts()).f1() for part in counts]
        return None if any(f1 is None for f1 in found) else (found[0] or 0.0, found[1] or 0.0, found[2] or 0.0)


def rehearse(sample: Sample, segmenter: FewShotSegmenter, first: int, report: Report = lambda step: None) -> Outcome:
    """Do the main job on a sample.

    Parameters
    ----------
    sample
        At least three frames, with their masks.
    segmenter
        Where proposals come from.
    first
        Index of the frame to teach.
    report
        Called for every proposal.

    Returns
    -------
    Outcome
        Proposals before and after the frame with the lowest score was corrected, and the labels in the end.
    """
    session = Session(segmenter, classes=sample.classes)
    session.add_frames(sample.frames)
    shot = sample.shot(first)
    session.teach(shot)
    before = {step.key: step for step in _propose(session, sample, 1, report)}
    corrected = session.review_queue()[0]
    mask = sample.masks[corrected]
    if sample.instances:
        session.correct(corrected, mask, instances=sample.instances[corrected])
    session.accept(corrected, mask)
    after = {step.key: step for step in _propose(session, sample, 2, report)}
    session.accept_above(0.0)
    labels = {frame.key: session.labels(frame.key) for frame in sample.frames}
    done = {key: decided for key, decided in labels.items() if decided is not None}
    if sample.instances:
        session.link_objects(image_name(shot.key), "Z")
    ids = {key: session.objects(key) for key in done}
    objects = {key: found for key, found in ids.items() if found is not None}
    return Outcome(sample, shot.key, corrected, before, after, done, objects)


def write(outcome: Outcome, folder: Path) -> tuple[Path, ...]:
    """Write labels and objects as TIFF and the overlay as PNG, in the place of those of an earlier run.

    Returns
    -------
    tuple of Path
        The TIFF of the labels, that of the objects where they are told apart, and the PNG.

    Raises
    ------
    ExportError
        If a file cannot be written; what was there is untouched then.
    """
    sample = outcome.sample
    written = []
    for what, planes in (("labels", outcome.labels), ("objects", outcome.objects)):
        if planes:
            stack = np.stack([planes[frame.key] for frame in sample.frames])  # (frames, H, W)
            file = folder / f"{sample.name}_{what}.tif"
            write_labels_tiff(file, stack, spacing=sample.spacing, unit=sample.unit, overwrite=True)
            written.append(file)
    picture = folder / f"{sample.name}_overlay.png"
    with replacing(picture, overwrite=True) as png:
        Pillow.fromarray(draw(outcome)).save(png, "PNG", optimize=True)
    return *written, picture


def draw(outcome: Outcome, columns: int = 3) -> Picture:
    """Show every frame next to its labels, or objects, tinted and outlined, with known outlines in white."""
    sample = outcome.sample
    before, after = outcome.mean_iou
    known = "true outline" if sample.masks_are_true else "outline of the stand-in mask"
    shown = "objects, each in a colour of its own" if outcome.objects else "labels"
    found = "" if outcome.f1 is None else f" F1 of objects {outcome.f1[0]:.2f} and {outcome.f1[1]:.2f}."
    return sheet(
        [_panel(outcome, frame.key) for frame in sample.frames],
        columns,
        title=f"{sample.title}: one taught, one corrected, {len(outcome.after)} proposed",
        note=f"Left the image, right its {shown}. Mean IoU of the proposals {before:.2f} before the correction, "
        f"{after:.2f} after it.{found}",
        classes=() if outcome.objects else sample.classes,
        marks={TAUGHT_MARK: "taught", CORRECTED_MARK: "corrected", "#ffffff": known},
    )


def mean_iou(labels: npt.NDArray[np.integer], mask: npt.NDArray[np.integer], class_ids: tuple[int, ...]) -> float:
    """Return the IoU of two label maps (H, W), the mean over the classes that are in either of them; 1 if none is."""
    overlaps = []
    for class_id in class_ids:
        a, b = labels == class_id, mask == class_id
        either = np.count_nonzero(a | b)
        if either:
            overlaps.append(np.count_nonzero(a & b) / either)
    return float(np.mean(overlaps)) if overlaps else 1.0


def _propose(session: Session, sample: Sample, pass_number: int, report: Report) -> Iterator[Step]:
    class_ids = tuple(c.id for c in sample.classes)
    total = len(session.frames) - len(session.support)
    start = time.perf_counter()
    for done, proposal in enumerate(session.propose(), start=1):
        now = time.perf_counter()
        iou = mean_iou(proposal.labels, sample.masks[proposal.key], class_ids)
        objects = together = None
        if proposal.instances is not None and sample.instances:
            truth = sample.instances[proposal.key]
            objects, together = (
                count_objects(proposal.instances, truth),
                count_objects(connected(proposal.labels), truth),
            )
        step = Step(pass_number, done, total, proposal.key, proposal.score, iou, now - start, objects, together)
        report(step)
        yield step
        start = time.perf_counter()


def _panel(outcome: Outcome, key: FrameKey) -> Panel:
    sample = outcome.sample
    image = next(frame for frame in sample.frames if frame.key == key).read()
    factor = max(1, round(_PANEL_HEIGHT / image.shape[0]))
    size = (factor * image.shape[0], factor * image.shape[1])
    picture = as_picture(image, size)
    shown, known, colours = outcome.labels[key], sample.masks[key], {c.id: c.colour for c in sample.classes}
    if outcome.objects:
        ids, known, colours = outcome.objects[key], sample.instances[key], _COLOURS
        shown = np.where(ids > 0, 1 + (ids - 1) % len(_COLOURS), 0).astype(np.int32)
    drawn = overlay(picture, enlarged(shown, size), colours, width=1)
    step = outcome.after.get(key)
    if step is None:
        taught = key == outcome.taught
        words, mark = ("taught", TAUGHT_MARK) if taught else ("corrected", CORRECTED_MARK)
        return Panel(beside(picture, drawn), f"{frame_name(key)} · {words}", mark)
    drawn[outlines(enlarged(known, size))] = _REFERENCE
    f1 = "" if step.f1 is None else f" · F1 {step.f1:.2f}"
    return Panel(beside(picture, drawn), f"{step.name} · score {step.score:.2f} · IoU {step.iou:.2f}{f1}")
