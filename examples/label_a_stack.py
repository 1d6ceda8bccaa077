"""Label a whole stack from two painted slices, slice by slice, and keep its voxel size in the file.

Run it with ``python examples/label_a_stack.py``; the results go to ``example-output/``.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from napari_fewshot import Frame, PropagationSettings, Shot, SupportSet, load_segmenter, propagate
from napari_fewshot.imaging.overlay import as_picture, overlay
from napari_fewshot.imaging.phantom import touching_cells
from napari_fewshot.io.labels import write_labels_tiff

# A simulated stack (Z, Y, X) whose labels are known; put your own array in its place.
phantom = touching_cells(shape=(8, 192, 192), cells=36, seed=1)
frames = [Frame(("cells", z), plane) for z, plane in enumerate(phantom.image)]

# Two painted slices; 1 is the cell body and 2 the nucleus.
painted = (1, 6)
support = SupportSet(Shot(frames[z], phantom.labels[z]) for z in painted)

# propagate() is lazy: nothing but one slice is in memory, and you may stop whenever you like.
labels = np.zeros(phantom.image.shape, np.uint8)
settings = PropagationSettings(min_area=20)
for proposal in propagate(load_segmenter("auto"), support, frames, settings):
    labels[proposal.key[1]] = proposal.labels
    print(f"{proposal.name}: expected IoU {proposal.score:.2f}")
for z in painted:
    labels[z] = phantom.labels[z]

folder = Path("example-output")
path = write_labels_tiff(folder / "cells_labels.tif", labels, spacing=phantom.spacing, unit="µm", overwrite=True)
print("written:", path)

slices = [
    overlay(as_picture(image), classes, {1: "#3182bd", 2: "#e6550d"})
    for image, classes in zip(phantom.image, labels, strict=True)
]
Image.fromarray(np.concatenate(slices, axis=1)).save(folder / "cells_overlay.png")
print("written:", folder / "cells_overlay.png")
