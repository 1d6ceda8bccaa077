"""Neighbouring sections of a real stack of electron micrographs."""

from pathlib import Path

import numpy as np
from skimage import io

from napari_fewshot import Frame, PropagationSettings, Shot, SupportSet, VolumeSettings, load_segmenter, propagate


def test_sections_of_nervous_tissue_are_better_together(shared_data: Path) -> None:
    folder = shared_data / "data" / "dev" / "isbi2012_em"
    part = np.s_[:192, :192]
    images = np.stack([io.imread(folder / "images" / f"{z:03}.png")[part] for z in range(5)])
    membrane = np.stack([io.imread(folder / "labels" / f"{z:03}.png")[part] == 1 for z in range(5)])
    frames = Frame.of_stack("sections", images, (4.0, 4.0), step=50.0)
    segmenter = load_segmenter(device="cpu")
    support = SupportSet([Shot(frames[2], membrane[2].astype(np.int32))])

    def iou(volume: VolumeSettings) -> float:
        made = propagate(segmenter, support, frames, PropagationSettings(volume=volume))
        pairs = [(proposal.labels == 1, membrane[proposal.key[1]]) for proposal in made]
        assert len(pairs) == 4
        return sum(int((a & b).sum()) for a, b in pairs) / sum(int((a | b).sum()) for a, b in pairs)

    assert iou(VolumeSettings("z")) > iou(VolumeSettings()) > 0.4
