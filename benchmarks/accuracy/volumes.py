"""What neighbouring slices bring: the table of docs/volumes.md.

    python benchmarks/accuracy/volumes.py [FOLDER ...] [--shots 1 3] [--json FILE] [--picture FILE]

Measured are the synthetic stack of the package and stacks in folders, ``<set>/images/*.png`` and
``<set>/labels/*.png``: consecutive slices in the order of their names. Of each, K slices that are spread evenly are
taught in full, the others are proposed for, each by itself (off) and together with its neighbours (on), with the
weights that are learnt from the shots. Told are

* the mean IoU over the classes, counted over all slices that were not taught;
* the flicker: of the pixels whose true label stays from one slice to the next, the share whose proposed label does not;
* blinks: the share of pixels that have another label than on the slice above and on the slice below, which agree with
  each other, less the same share of the truth;
* the change: how many pixels change their proposed label from one slice to the next, as a share of how many change
  their true one;
* whether slices that are proposed for in another order, each with nothing kept of the others, come out the same to the
  last bit: then no seam shows, however a stack is worked through.

A set in which every pixel belongs to a class has its most frequent class as background.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage import io

from napari_fewshot import Frame, Proposal, Shot, SupportSet, load_segmenter
from napari_fewshot.imaging.phantom import touching_cells
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.segmenter import Concept
from napari_fewshot.support import UNLABELLED
from napari_fewshot.volumes.concept import Surroundings
from napari_fewshot.volumes.consistency import Weights
from napari_fewshot.volumes.settings import VolumeSettings
from napari_fewshot.volumes.tuning import learn_consistency

LabelStack = npt.NDArray[np.int32]  # (Z, H, W)


@dataclass(frozen=True, eq=False)
class Volume:
    """A stack whose labels are known."""

    name: str
    images: npt.NDArray[Any]
    labels: LabelStack
    spacing: tuple[float, float, float]

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Its slices."""
        return Frame.of_stack(self.name, self.images, self.spacing[1:], step=self.spacing[0])

    @property
    def class_ids(self) -> list[int]:
        """Classes that are on it."""
        return [int(c) for c in np.unique(self.labels) if c not in (0, UNLABELLED)]


@dataclass(frozen=True)
class Result:
    """What came out of one stack and one number of shots."""

    stack: str
    shots: int
    off: float
    on: float
    flicker_off: float
    flicker_on: float
    blinks_off: float
    blinks_on: float
    change_off: float
    change_on: float
    weights: Weights
    same_in_any_order: bool
    seconds_off: float
    seconds_on: float


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folders", nargs="*", type=Path)
    asked.add_argument("--shots", nargs="+", type=int, default=[1, 3])
    asked.add_argument("--json", type=Path)
    asked.add_argument("--picture", type=Path, help="cuts along x and z of the synthetic stack")
    told = asked.parse_args()
    results = []
    print(
        "| stack | K | mIoU off | mIoU on | flicker off | on | less | blinks off | on | change off | on | any order | "
        "s/slice off | on |"
    )
    print("|" + "---|" * 14)
    for volume in (synthetic(), *map(stack_in, told.folders)):
        for shots in told.shots:
            result, off, on = measured(volume, shots)
            results.append(result)
            print(row(result), flush=True)
            if told.picture and volume.name == "synthetic" and shots == told.shots[-1]:
                draw(volume, off, on, told.picture)
    gain = float(np.mean([result.on - result.off for result in results]))
    print(f"\nMean gain: {gain:+.3f}")
    if told.json:
        told.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def synthetic() -> Volume:
    """Return the stack of cells that comes with the package."""
    phantom = touching_cells()
    return Volume("synthetic", phantom.image, phantom.labels, phantom.spacing)


def stack_in(folder: Path) -> Volume:
    """Read consecutive slices; what is known of their spacing is that of serial sections."""
    images = np.stack([io.imread(file) for file in sorted((folder / "images").glob("*.png"))])
    labels = np.stack([io.imread(file) for file in sorted((folder / "labels").glob("*.png"))]).astype(np.int32)
    if not (labels == 0).any():
        labels[labels == np.bincount(labels[labels != UNLABELLED]).argmax()] = 0
    return Volume(folder.name, images, labels, (10.0, 1.0, 1.0))


def measured(volume: Volume, shots: int) -> tuple[Result, LabelStack, LabelStack]:
    """Propose with and without neighbours."""
    frames, count = volume.frames, len(volume.images)
    taught = [round((i + 0.5) * count / shots - 0.5) for i in range(shots)]
    others = [z for z in range(count) if z not in taught]
    segmenter = load_segmenter(device="cpu", cache=FeatureCache())
    concept = segmenter.learn(SupportSet([Shot(frames[z], volume.labels[z]) for z in taught]))
    begun = time.process_time()
    off = proposed(concept, frames, others, volume.labels)
    between = time.process_time()
    consistency = learn_consistency(segmenter, concept, frames, VolumeSettings("z"))
    on = proposed(consistency.around(Surroundings(frames)), frames, others, volume.labels)
    ended = time.process_time()

    def anew(z: int) -> Proposal:
        return consistency.around(Surroundings(frames)).propose(frames[z])

    asked = [others[-1], others[0], others[len(others) // 2]]
    same = all(np.array_equal(anew(z).labels, on[z]) for z in asked)
    ious = [mean_iou(labels[others], volume.labels[others], volume.class_ids) for labels in (off, on)]
    flickers = [flicker(labels, volume.labels, others) for labels in (off, on)]
    blinking = [blinks(labels, others) - blinks(volume.labels, others) for labels in (off, on)]
    changed = [change(labels, others) / change(volume.labels, others) for labels in (off, on)]
    seconds = [(between - begun) / len(others), (ended - between) / len(others)]
    result = Result(volume.name, shots, *ious, *flickers, *blinking, *changed, consistency.weights, same, *seconds)
    return result, off, on


def proposed(concept: Concept, frames: Sequence[Frame], others: Sequence[int], truth: LabelStack) -> LabelStack:
    """Propose for slices, and take the others as they were taught."""
    labels = truth.copy()
    for z in others:
        labels[z] = concept.propose(frames[z]).labels
    return labels


def mean_iou(labels: LabelStack, truth: LabelStack, class_ids: Sequence[int]) -> float:
    """Mean over the classes, pixels of all slices counted together."""
    known = truth != UNLABELLED
    pairs = [((labels == c) & known, truth == c) for c in class_ids]
    return float(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs]))


def flicker(labels: LabelStack, truth: LabelStack, others: Sequence[int]) -> float:
    """Of pixels whose true label stays from one slice to the next: how many change their label."""
    pairs = _pairs(others)
    stays = _share(pairs, lambda z: truth[z] == truth[z + 1])
    return _share(pairs, lambda z: (truth[z] == truth[z + 1]) & (labels[z] != labels[z + 1])) / stays


def blinks(labels: LabelStack, others: Sequence[int]) -> float:
    """Share of pixels that have another label than on both slices beside, which agree."""
    middle = [z for z in others if z - 1 in others and z + 1 in others]
    return _share(middle, lambda z: (labels[z - 1] == labels[z + 1]) & (labels[z] != labels[z - 1]))


def change(labels: LabelStack, others: Sequence[int]) -> float:
    """Share of pixels that change their label from one slice to the next."""
    return _share(_pairs(others), lambda z: labels[z] != labels[z + 1])


def _pairs(others: Sequence[int]) -> list[int]:
    return [z for z in others if z + 1 in others]


def _share(places: Sequence[int], of: Callable[[int], npt.NDArray[np.bool_]]) -> float:
    return float(np.mean([of(z).mean() for z in places]))


def row(result: Result) -> str:
    """Give a line of the table."""
    cells = [
        *(result.stack, result.shots, f"{result.off:.3f}", f"{result.on:.3f}"),
        *(f"{result.flicker_off:.2%}", f"{result.flicker_on:.2%}", f"{1 - result.flicker_on / result.flicker_off:.0%}"),
        *(f"{result.blinks_off:.2%}", f"{result.blinks_on:.2%}"),
        *(f"{result.change_off:.2f}", f"{result.change_on:.2f}"),
        "same" if result.same_in_any_order else "DIFFERENT",
        *(f"{seconds:.2f}" for seconds in (result.seconds_off, result.seconds_on)),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def draw(volume: Volume, off: LabelStack, on: LabelStack, path: Path) -> None:
    """Draw a cut along x and z: the image, the truth, and both proposals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    y = int((volume.labels > 0).sum(axis=(0, 2)).argmax())
    colours = ListedColormap(["#1b1b1b", "#e6550d", "#3182bd"])
    aspect = volume.spacing[0] / volume.spacing[2]
    figure, axes = plt.subplots(4, 1, figsize=(8, 5.2), layout="constrained")
    axes[0].imshow(volume.images[:, y], cmap="gray", aspect=aspect)
    for place, labels in zip(axes[1:], (volume.labels, off, on), strict=True):
        place.imshow(labels[:, y], cmap=colours, vmin=0, vmax=2, aspect=aspect, interpolation="nearest")
    names = ("image", "truth", "each slice by itself", "with neighbouring slices")
    for place, title in zip(axes, names, strict=True):
        place.set_title(title, loc="left", fontsize=10)
        place.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
