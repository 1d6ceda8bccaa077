"""What weights and code give together, in a few numbers.

``python -m tests.golden.pins`` writes down what they give now, after weights were replaced on purpose.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_fewshot.models.backbones.mica import Mica
from napari_fewshot.models.weights import shipped, shipped_weights

FOLDER = Path(__file__).parent


def picture() -> np.ndarray:
    """Discs, stripes and a ramp (64, 96) in [0, 1], made by arithmetic that every computer does alike."""
    y, x = np.mgrid[:64, :96]
    made = 40 + x + 60 * (((y - 20) ** 2 + (x - 30) ** 2) < 144) + 50 * ((((x + 2 * y) // 5) % 2) * (y > 36) * (x > 48))
    return (made % 256 / 255).astype(np.float32)


def measured(name: str) -> dict[str, Any]:
    """Key of the backbone, and of each level mean, deviation and some features at some cells."""
    mica = Mica(shipped(name))
    with torch.inference_mode():
        features = mica(torch.from_numpy(picture())[None])
    levels = {}
    for level, f in features.items():
        channels, height, width = f.shape
        some = f[:: max(1, channels // 8), height // 2, :: max(1, width // 4)]
        levels[f"stride {level.stride}"] = {
            "mean": round(float(f.mean()), 4),
            "deviation": round(float(f.std()), 4),
            "features": [[round(v, 3) for v in row] for row in some.tolist()],
        }
    return {"key": mica.key, "levels": levels}


def shipped_backbones() -> list[Mapping[str, Any]]:
    """Cards of shipped weights that are no heads of methods: what those answer is pinned with the methods."""
    return [card for card in shipped_weights() if "method" not in card["architecture"]]


def file_of(name: str) -> Path:
    """Where the pins of weights are."""
    return FOLDER / f"{name}.json"


if __name__ == "__main__":
    for card in shipped_backbones():
        file_of(card["name"]).write_text(json.dumps(measured(card["name"]), indent=1) + "\n")
        print(f"pinned {file_of(card['name'])}")
