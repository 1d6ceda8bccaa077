"""Where the shipped embedding of objects puts some pixels of a picture that comes with scikit-image.

``python -m tests.golden.embedding`` writes down what comes out now, after the weights were changed on purpose.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from skimage import data

from napari_fewshot import Frame
from napari_fewshot.models.dml import Dml
from napari_fewshot.models.loading import load

FILE = Path(__file__).parent / "embeddings" / "dml-mica-v1.json"
RADIUS = 20.0


def measured() -> dict[str, Any]:
    """Vectors and goodness of a grid of pixels over some coins, without anything learnt from shots."""
    embedding = Dml.trained_or_none(load("auto", "mica", "cpu", None).extractor)
    assert embedding is not None
    ys, xs = (axis.ravel() for axis in np.mgrid[8:64:16, 8:128:24])
    found = embedding.fit((), RADIUS).at(Frame("coins", data.coins()[10:74, 20:148]), ys, xs)
    return {
        "vectors": np.round(found.vectors.astype(float), 3).tolist(),
        "goodness": np.round(found.goodness.astype(float), 3).tolist(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(measured()) + "\n")
    print(FILE)
