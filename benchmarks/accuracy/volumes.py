"""What neighbouring slices bring: the table of docs/volumes.md.

    python benchmarks/accuracy/volumes.py [FOLDER ...] [--shots 1 3] [--json FILE] [--picture FILE]

Measured are the synthetic stack of the package and stacks in folders, ``<set>/images/*.png`` and
``<set>/labels/*.png``: consecutive serial sections in the order of their names, 10 pixels apart. What is told of each,
see `napari_fewshot.evaluation.volumes`; `napari-fewshot evaluate volumes` tells it of stacks of your own. Beside that,
whether slices that are proposed for in another order, each with nothing kept of the others, come out the same to the
last bit: then no seam shows, however a stack is worked through.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from napari_fewshot import Proposal, load_segmenter
from napari_fewshot.evaluation.folders import find_sets
from napari_fewshot.evaluation.volumes import (
    LabelledStack,
    LabelStack,
    Measured,
    VolumeOutcome,
    measure,
    volume_table,
)
from napari_fewshot.imaging.phantom import touching_cells
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.volumes.concept import Surroundings
from napari_fewshot.volumes.consistency import Weights

SECTIONS: Final = 10.0  # pixels, of serial sections for an electron microscope


@dataclass(frozen=True)
class Result:
    """What came out of one stack and one number of shots."""

    outcome: VolumeOutcome
    weights: Weights
    same_in_any_order: bool


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folders", nargs="*", type=Path)
    asked.add_argument("--shots", nargs="+", type=int, default=[1, 3])
    asked.add_argument("--json", type=Path)
    asked.add_argument("--picture", type=Path, help="cuts along x and z of the synthetic stack")
    told = asked.parse_args()
    results: list[Result] = []
    sets = [data_set for folder in told.folders for data_set in find_sets(folder)]
    for stack in (synthetic(), *(LabelledStack.of(each, SECTIONS) for each in sets)):
        for shots in told.shots:
            segmenter = load_segmenter(device="cpu", cache=FeatureCache())
            measured = measure(segmenter, stack, shots)
            results.append(
                Result(measured.outcome, measured.consistency.weights, is_same_in_any_order(measured, stack))
            )
            if told.picture and stack.name == "synthetic" and shots == told.shots[-1]:
                draw(stack, measured.off, measured.on, told.picture)
        print(volume_table([result.outcome for result in results]), flush=True)
    print("\nIn any order:", "the same" if all(result.same_in_any_order for result in results) else "DIFFERENT")
    if told.json:
        told.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def synthetic() -> LabelledStack:
    """Return the stack of cells that comes with the package."""
    phantom = touching_cells()
    return LabelledStack("synthetic", phantom.image, phantom.labels, phantom.spacing[0] / phantom.spacing[2])


def is_same_in_any_order(measured: Measured, stack: LabelledStack) -> bool:
    """Propose for some slices again, with nothing kept of the others."""
    frames, others = stack.frames, measured.others

    def anew(z: int) -> Proposal:
        return measured.consistency.around(Surroundings(frames)).propose(frames[z])

    asked = [others[-1], others[0], others[len(others) // 2]]
    return all(np.array_equal(anew(z).labels, measured.on[z]) for z in asked)


def draw(volume: LabelledStack, off: LabelStack, on: LabelStack, path: Path) -> None:
    """Draw a cut along x and z: the image, the truth, and both proposals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    y = int((volume.labels > 0).sum(axis=(0, 2)).argmax())
    colours = ListedColormap(["#1b1b1b", "#e6550d", "#3182bd"])
    aspect = volume.step
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
