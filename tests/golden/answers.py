"""What every method answers with the shipped weights, on pictures that come with scikit-image: a coarse grid each.

``python -m tests.golden.answers [METHOD ...]`` writes down what they answer now (all of them, where none is named),
after a method or the weights were changed on purpose.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from skimage import data

from napari_fewshot import Frame, Proposal, Shot, SupportSet, list_segmenters, load_segmenter
from napari_fewshot.models.cache import FeatureCache

Array = Any

FOLDER = Path(__file__).parent / "answers"
_ROWS, _COLUMNS = 4, 8


def file_of(method: str) -> Path:
    """Where the answers of a method are."""
    return FOLDER / f"{method}.json"


def coins_with_a_mask() -> tuple[SupportSet, Frame]:
    """Teach two coins with a whole mask; ask about others. Masks are thresholds, which every version makes alike."""
    picture = data.coins()
    shown, asked = picture[10:74, 20:148], picture[82:146, 20:148]
    return SupportSet([Shot(Frame("coins", shown), (shown > 110).astype(np.int32))]), Frame("other coins", asked)


def tissue_with_strokes() -> tuple[SupportSet, Frame]:
    """Teach two classes, brown and blue, on two tiles of which only every ninth row is painted."""
    picture = data.immunohistochemistry()
    tiles = [picture[y : y + 96, x : x + 128] for y, x in ((20, 20), (200, 300), (380, 100))]
    shots = []
    for number, tile in enumerate(tiles[:2]):
        red, blue = tile[..., 0].astype(int), tile[..., 2].astype(int)
        labels = np.where(red - blue > 30, 1, np.where(blue - red > 5, 2, 0))
        shots.append(Shot(Frame(f"tile {number}", tile), np.where(np.arange(96)[:, None] % 9 == 4, labels, 255)))
    return SupportSet(shots), Frame("third tile", tiles[2])


TASKS = {"one shot, a whole mask": coins_with_a_mask, "two shots, strokes, two classes": tissue_with_strokes}


def measured(method: str) -> dict[str, Any]:
    """Probabilities of every class, in per cent, averaged over each field of a grid; and the score. By task."""
    found = {}
    for task, made in TASKS.items():
        support, frame = made()
        segmenter = load_segmenter(method, backbone="mica", device="cpu", cache=_cache())
        found[task] = _summary(segmenter.learn(support).propose(frame))
    return found


@cache
def _cache() -> FeatureCache:
    return FeatureCache()


def _summary(proposal: Proposal) -> dict[str, Any]:
    grids = {}
    for class_id, p in zip(proposal.class_ids, proposal.probabilities[1:], strict=True):
        height, width = p.shape
        fields = p.reshape(_ROWS, height // _ROWS, _COLUMNS, width // _COLUMNS).mean((1, 3))
        grids[f"class {class_id}"] = [" ".join(f"{100 * v:5.1f}" for v in row) for row in fields]
    return {"score": round(proposal.score, 3), **grids}


def main(methods: list[str]) -> None:
    """Write down what methods answer now, and forget those that are gone."""
    known = [card.name for card in list_segmenters()]
    FOLDER.mkdir(exist_ok=True)
    for method in methods or known:
        file_of(method).write_text(json.dumps(measured(method), indent=1) + "\n")
        print(f"pinned {file_of(method)}")
    for file in FOLDER.glob("*.json"):
        if file.stem not in known:
            file.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
