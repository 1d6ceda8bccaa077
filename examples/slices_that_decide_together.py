"""Teach one slice of a stack, and let those around it be proposed for each by itself, then together.

Run it with ``python examples/slices_that_decide_together.py``; the labels go to ``example-output/``.
"""

from pathlib import Path

import numpy as np

from napari_fewshot import PropagationSettings, Session, Shot, VolumeSettings
from napari_fewshot.io.labels import write_labels_tiff
from napari_fewshot.io.samples import cells_sample

# A simulated stack of touching cells, 2 µm from slice to slice and 0.5 µm from pixel to pixel; what is really in it
# comes with it. Your own: Frame.of_stack("a name", images, (0.5, 0.5), step=2.0).
sample = cells_sample()
first, taught, last = 3, 5, 7
slices = sample.frames[first : last + 1]

session = Session(classes=sample.classes)
session.add_frames(slices)
session.teach(Shot(sample.frames[taught], sample.masks[sample.frames[taught].key]))


def agreement() -> float:
    """Return the mean IoU of cell body and nucleus on the slices that were not taught."""
    others = [frame.key for frame in slices if frame is not sample.frames[taught]]
    proposed = np.stack([session.labels(key, with_proposals=True) for key in others])  # (Z, H, W)
    truth = np.stack([sample.masks[key] for key in others])
    pairs = [(proposed == c.id, truth == c.id) for c in sample.classes]
    return float(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs]))


for proposal in session.propose():
    print(f"{proposal.name}: expected IoU {proposal.score:.2f}")
print(f"each slice by itself: mean IoU {agreement():.3f}")

# Neighbours are aligned, and count as much as the shot says that they should.
session.propagation = PropagationSettings(volume=VolumeSettings("z"))
list(session.propose())
print(f"with neighbouring slices: mean IoU {agreement():.3f}")

session.accept_above(0.0)
labels = np.stack([session.labels(frame.key) for frame in slices])
path = Path("example-output") / "cells_labels.tif"
print("written:", write_labels_tiff(path, labels, spacing=sample.spacing, overwrite=True))
