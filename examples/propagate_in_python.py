"""Paint one image, get proposals for the others, correct the worst, and export: the task of the dock, in Python.

Run it with ``python examples/propagate_in_python.py``; the masks go to ``example-output/``.
"""

from pathlib import Path

from napari_fewshot import Session, Shot
from napari_fewshot.io.labels import write_labels_tiff
from napari_fewshot.io.samples import coins_sample

# Four photographs of coins. Your own images: Frame("a name", array), (H, W) or (H, W, channels) of any type.
sample = coins_sample()
first, *others = sample.frames
print(f"images: {', '.join(frame.name for frame in sample.frames)}")

session = Session(classes=sample.classes)
session.add_frames(sample.frames)

# Teach one image. The mask is (H, W) integers: 0 background, 1, 2, ... your classes; here it comes with the sample.
session.teach(Shot(first, sample.masks[first.key]))

for proposal in session.propose():
    print(f"{proposal.name}: expected IoU {proposal.score:.2f}")

# Look at the one that needs it most. Correct it (here: with the mask that comes with the sample) and accept it:
# it is a further shot from now on, and proposing again makes the others better.
worst = session.next_to_review()
if worst is not None:
    session.accept(worst, sample.masks[worst])
    print(f"corrected: {session.frame(worst).name}")
for proposal in session.propose():
    print(f"{proposal.name}: expected IoU {proposal.score:.2f} now")
session.accept_above(0.0)

for frame in sample.frames:
    path = Path("example-output") / f"{frame.name}_labels.tif"
    print("written:", write_labels_tiff(path, session.labels(frame.key), overwrite=True))
