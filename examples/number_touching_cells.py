"""Number the cells on three slices, and get all cells of the other slices numbered, also where they touch.

Run it with ``python examples/number_touching_cells.py``; labels and a picture go to ``example-output/``.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

from napari_fewshot import Frame, Shot, SupportSet, load_segmenter, propagate
from napari_fewshot.evaluation.instance_metrics import count_objects
from napari_fewshot.imaging.phantom import touching_cells
from napari_fewshot.instances.linking import linked
from napari_fewshot.instances.objects import connected
from napari_fewshot.io.labels import write_labels_tiff

# A stack of cells that press against each other. Your own: any image, and (H, W) numbers, 0 where there is no cell.
cells = touching_cells((9, 192, 192), cells=40, nuclei=False)
frames = [Frame(("cells", z), image) for z, image in enumerate(cells.image)]
shots = SupportSet(Shot.of_objects(frames[z], cells.instances[z]) for z in (1, 4, 7))

segmenter = load_segmenter("auto", device="cpu", instances=True)
found = {shot.key: shot.instances for shot in shots}
for proposal in propagate(segmenter, shots, frames):
    z = int(proposal.key[1])
    together = count_objects(connected(proposal.labels), cells.instances[z]).f1()  # as if what touches were one cell
    apart = count_objects(proposal.instances, cells.instances[z]).f1()
    print(f"{proposal.name}: expected IoU {proposal.score:.2f}")
    print(f"  F1 of cells: {together:.2f} by labels, {apart:.2f} by objects")
    found[proposal.key] = proposal.instances

# One number for each cell through all slices.
stack = np.stack(list(linked(found[frame.key] for frame in frames)))
print("written:", write_labels_tiff(Path("example-output") / "cells_objects.tif", stack, overwrite=True))

# A picture: a slice, its labels, its objects.
z = 3
gray = np.clip(cells.image[z] / np.percentile(cells.image[z], 99.5), 0, 1)
panels = [np.stack([gray] * 3, -1)]
for ids in (np.where(stack[z] > 0, 1, 0), stack[z]):
    colours = label2rgb(ids, gray, alpha=0.35, bg_label=0)
    panels.append(np.where(find_boundaries(ids, mode="inner")[..., None], 1.0, colours))
picture = np.concatenate(panels, axis=1).repeat(2, 0).repeat(2, 1)
path = Path("example-output") / "cells_objects.png"
Image.fromarray(np.round(255 * picture).astype(np.uint8)).save(path)
print("written:", path)
