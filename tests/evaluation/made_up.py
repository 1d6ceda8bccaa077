"""Benchmarks as they are published, but small and made up; and a segmenter that knows only brightness."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_fewshot.evaluation.pools import Pool
from napari_fewshot.frames import Frame
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import TileProgress
from napari_fewshot.support import Shot, SupportSet
from tests.fakes import Brightness, BrightnessSegmenter

Bytes = npt.NDArray[np.uint8]

# Category ids and names of MS COCO, in its order: 80 of the numbers 1 to 90.
COCO_CATEGORIES = (
    "1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat, 10 traffic light, "
    "11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat, 18 dog, 19 horse, 20 sheep, 21 cow, "
    "22 elephant, 23 bear, 24 zebra, 25 giraffe, 27 backpack, 28 umbrella, 31 handbag, 32 tie, 33 suitcase, "
    "34 frisbee, 35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat, 40 baseball glove, 41 skateboard, "
    "42 surfboard, 43 tennis racket, 44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl, "
    "52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake, "
    "62 chair, 63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet, 72 tv, 73 laptop, 74 mouse, 75 remote, "
    "76 keyboard, 77 cell phone, 78 microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator, 84 book, 85 clock, "
    "86 vase, 87 scissors, 88 teddy bear, 89 hair drier, 90 toothbrush"
)
CATEGORIES = [
    {"id": int(number), "name": name}
    for number, _, name in (entry.partition(" ") for entry in COCO_CATEGORIES.split(", "))
]


@dataclass
class PhotographSegmenter:
    """`BrightnessSegmenter` for photographs, which it takes as gray."""

    name: str = "brightness of photographs"
    inner: BrightnessSegmenter = field(default_factory=BrightnessSegmenter)
    asked: list[SupportSet] = field(default_factory=list)

    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> "PhotographConcept":
        self.asked.append(support)
        gray = SupportSet((Shot(_gray(shot.frame), shot.labels) for shot in support), support.classes)
        return PhotographConcept(self.inner.learn(gray))


@dataclass(frozen=True)
class PhotographConcept:
    learnt: Brightness

    @property
    def support(self) -> SupportSet:
        return self.learnt.support

    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        return self.learnt.propose(_gray(frame))


def _gray(frame: Frame) -> Frame:
    image = frame.read()
    return Frame(frame.key, image if image.ndim == 2 else image.mean(axis=2).astype(np.uint8))


def save(file: Path, pixels: Bytes, palette: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:  # as VOC's masks are
        image = Image.frombytes("P", image.size, pixels.tobytes())
        image.putpalette([value for index in range(256) for value in (index, 255 - index, 7 * index % 256)])
    image.save(file, **({"quality": 98} if file.suffix == ".jpg" else {}))


def photograph(labels: Bytes, rng: np.random.Generator) -> Bytes:
    """An image (H, W, 3) on which a class has a brightness of its own, with noise enough for mistakes."""
    bright = np.array([20, *(60 + 8 * (c % 20) for c in range(1, 255)), 40])[labels]
    return (bright[..., None] + rng.normal(0, 25, (*labels.shape, 3))).clip(0, 255).astype(np.uint8)


def with_object(class_id: int, rng: np.random.Generator, size: tuple[int, int] = (40, 56)) -> Bytes:
    """Labels with one rectangle that has a border of 255, as in VOC."""
    labels = np.zeros(size, np.uint8)
    top, left = int(rng.integers(2, 12)), int(rng.integers(2, 20))
    labels[top : top + 20, left : left + 26] = 255
    labels[top + 1 : top + 19, left + 1 : left + 25] = class_id
    return labels


def make_voc(root: Path, classes: Sequence[int] = range(1, 21), images: int = 4) -> Path:
    """VOC 2012: so many images of each class in val.txt, and one in train.txt."""
    rng = np.random.default_rng(0)
    listed: dict[str, list[str]] = {"val": [], "train": []}
    for class_id in classes:
        for number in range(images + 1):
            name = f"2008_{class_id:03}{number:03}"
            labels = with_object(class_id, rng)
            save(root / "JPEGImages" / f"{name}.jpg", photograph(labels, rng))
            save(root / "SegmentationClass" / f"{name}.png", labels, palette=True)
            listed["val" if number < images else "train"].append(name)
    for split, names in listed.items():
        file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(names) + "\n")
    return root


def make_coco(root: Path, images: int = 3) -> Path:
    """COCO: so many images of each of the 80 classes, with polygons; one in three has its object as a crowd."""
    rng = np.random.default_rng(1)
    photographs: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for category in CATEGORIES:
        for number in range(images):
            image_id = 1000 * int(category["id"]) + number
            file_name = f"COCO_val2014_{image_id:012}.jpg"
            labels = with_object(1, rng)
            labels[labels == 255] = 0
            save(root / "val2014" / file_name, photograph(labels * np.uint8(90), rng))
            photographs.append({"id": image_id, "file_name": file_name, "height": 40, "width": 56})
            rows, columns = np.nonzero(labels)
            top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
            crowd = number == 2
            box = [left, top, right, top, right, bottom, left, bottom]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image_id,
                    "category_id": category["id"],
                    "iscrowd": int(crowd),
                    "area": float((labels > 0).sum()),
                    "segmentation": runs(labels > 0) if crowd else [[float(v) for v in box]],
                }
            )
    write_instances(root, photographs, annotations)
    return root


def write_instances(root: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    file = root / "annotations" / "instances_val2014.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    shuffled = [*CATEGORIES[40:], *CATEGORIES[:40]]  # their order in the file must not matter
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": shuffled}))


def runs(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Run lengths down the columns, slowly: zeros first."""
    counts, value = [0], False
    for pixel in mask.ravel(order="F"):
        if bool(pixel) != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return {"counts": counts, "size": list(mask.shape)}


def make_fss(root: Path, classes: Sequence[str] = ("bus", "abe's_flyingfish", "tower_pisa"), images: int = 10) -> Path:
    """FSS-1000: a folder for each class, 1.jpg with 1.png to 10.jpg with 10.png."""
    rng = np.random.default_rng(2)
    for name in classes:
        for number in range(1, images + 1):
            mask = with_object(1, rng)
            mask[mask == 255] = 0
            save(root / name / f"{number}.jpg", photograph(mask * np.uint8(90), rng))
            gray = np.where(mask > 0, 250, 3).astype(np.uint8)
            save(root / name / f"{number}.png", np.repeat(gray[..., None], 3, axis=2))
    return root


def make_set(folder: Path, images: int = 6, classes: int = 2) -> Path:
    """A data set in the simple layout; the last image shows nothing."""
    rng = np.random.default_rng(3)
    for number in range(images):
        labels = np.zeros((40, 48), np.uint8)
        if number < images - 1:
            for class_id in range(1, classes + 1):
                at = int(rng.integers(0, 20))
                labels[10 * class_id : 10 * class_id + 9, at : at + 15] = class_id
        labels[0] = 255
        image = np.array([10, 120, 240] + [0] * 253)[labels] + rng.normal(0, 20, labels.shape)
        save(folder / "images" / f"{number:03}.png", image.clip(0, 255).astype(np.uint8))
        save(folder / "labels" / f"{number:03}.png", labels)
    return folder


def made_pool(images: int = 5, classes: Sequence[int] = (1, 2, 3)) -> Pool:
    """A pool in memory; image "c-n" shows class c alone, and the next class in a corner."""
    rng = np.random.default_rng(4)
    labels, photographs = {}, {}
    for class_id in classes:
        for number in range(images):
            name = f"{class_id}-{number}"
            labels[name] = with_object(class_id, rng)
            labels[name][:2, :9] = class_id % len(classes) + 1
            photographs[name] = photograph((labels[name] % 255 * np.uint8(12)).astype(np.uint8), rng)

    def of(name: str, class_ids: tuple[int, ...]) -> npt.NDArray[np.int32]:
        order = np.zeros(256, np.int32)
        order[255] = 255
        for position, class_id in enumerate(class_ids, start=1):
            order[class_id] = position
        return order[labels[name]]

    members = {c: tuple(sorted(n for n in labels if n.startswith(f"{c}-"))) for c in classes}
    return Pool("made up", 0, "in memory", {c: f"class {c}" for c in classes}, members, photographs.__getitem__, of)
