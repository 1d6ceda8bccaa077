"""Objects found by the package and by a peer, on the same images: one command makes the table of docs/instances.md.

    python benchmarks/accuracy/instances.py DATA [DATA ...] [--shots 3] [--queries 8] [--out FOLDER]

DATA are folders of data sets, ``SET/images``, ``SET/labels`` and ``SET/instances``. The peer is what Labkit, ilastik or
Trainable Weka with a distance watershed would give. Interrupted, the same command goes on.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
from skimage.feature import multiscale_basic_features, peak_local_max
from skimage.segmentation import watershed

from napari_fewshot import Frame, Proposal, SupportSet, __version__, load_segmenter
from napari_fewshot.evaluation.folders import FolderProtocol
from napari_fewshot.evaluation.instance_metrics import ObjectCounts, total
from napari_fewshot.evaluation.instances import evaluate_objects, find_object_sets
from napari_fewshot.evaluation.object_tables import object_table
from napari_fewshot.instances.objects import areas, without_small
from napari_fewshot.io.journal import Journal
from napari_fewshot.segmenter import FewShotSegmenter, TileProgress
from napari_fewshot.support import UNLABELLED

_FEATURES = {"sigma_min": 0.5, "sigma_max": 16}
_SAMPLES = 20_000
_SMOOTHING = 3.0  # px
_APART = 1.0  # radii of a usual object
_LEAST = 0.25  # of its area


@dataclass(frozen=True)
class PeerConcept:
    """A forest, and how large objects were."""

    support: SupportSet
    forest: object
    radius: float

    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        """Classify pixels, then flood the distance to the border from its peaks."""
        image = frame.read()
        probabilities = self.forest.predict_proba(features(image)).T.reshape(-1, *image.shape[:2])  # type: ignore[attr-defined]
        labels = np.asarray(self.forest.classes_)[probabilities.argmax(0)].astype(np.int32)  # type: ignore[attr-defined]
        mask = labels > 0
        distance = ndi.gaussian_filter(ndi.distance_transform_edt(mask), _SMOOTHING)
        parts, _ = ndi.label(mask, np.ones((3, 3)))
        apart = max(1, round(_APART * self.radius))
        peaks = peak_local_max(distance, min_distance=apart, labels=parts, exclude_border=False)
        seeds = np.zeros(mask.shape, np.int32)
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        ids = without_small(watershed(-distance, seeds, mask=mask).astype(np.int32), _LEAST * np.pi * self.radius**2)
        confidence = probabilities.max(0).astype(np.float32)
        probabilities = probabilities.astype(np.float32)
        classes = self.support.class_ids
        return Proposal(frame.key, labels, classes, probabilities, confidence, float(confidence.mean()), instances=ids)


class Peer:
    """Random forest on hand-made features of several scales, then a watershed of the distance transform.

    The forest is that of the project's yardstick. The watershed has the settings with the highest mean F1 of 16 that
    were tried on the queries themselves (first order of the images): peaks 0.5, 0.75, 1 or 1.5 usual radii apart,
    smoothed by 1 or 3 px, objects from 0.1 or 0.25 of the usual area on. Nobody could choose so well beforehand.
    """

    name = "random forest and distance watershed"

    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> PeerConcept:
        """Fit the forest to an even choice of labelled pixels."""
        from sklearn.ensemble import RandomForestClassifier

        rng, rows, values, sizes = np.random.default_rng(0), [], [], []
        for shot in support:
            x, y = features(shot.frame.read()), shot.labels.ravel()
            for value in np.unique(y[y != UNLABELLED]):
                at = rng.permutation(np.flatnonzero(y == value))[: _SAMPLES // len(support)]
                rows.append(x[at])
                values.append(y[at])
            if shot.instances is not None:
                sizes.append(areas(shot.instances))
        forest = RandomForestClassifier(100, max_depth=12, max_samples=0.5, n_jobs=-1, random_state=0)
        forest.fit(np.concatenate(rows), np.concatenate(values))
        return PeerConcept(support, forest, float(np.sqrt(np.median(np.concatenate(sizes)) / np.pi)))


def features(image: np.ndarray) -> np.ndarray:
    """(H W, D) float32."""
    x = image.astype(np.float32) / np.iinfo(image.dtype).max
    made = multiscale_basic_features(x, channel_axis=-1 if x.ndim == 3 else None, **_FEATURES)
    return made.reshape(-1, made.shape[-1]).astype(np.float32)


def main() -> None:
    """Measure both, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--engine", choices=["auto", "peer"], action="append")
    parser.add_argument("--set", action="append", dest="only")
    parser.add_argument("--out", type=Path, default=Path("evaluation-output/instances"))
    asked = parser.parse_args()
    protocol = FolderProtocol((asked.shots,), asked.seeds, asked.queries)
    sets = tuple(each for root in asked.data for each in find_object_sets(root))
    engines: dict[str, Callable[[], FewShotSegmenter]] = {
        "peer": Peer,
        "auto": lambda: load_segmenter("auto", device="cpu", instances=True),
    }
    found: dict[str, dict[str, ObjectCounts]] = {}
    for name in asked.engine or engines:
        settings = {"benchmark": "objects", "engine": name, "version": __version__, "queries": asked.queries}
        journal = Journal(asked.out / "journal" / f"{name}.jsonl", settings)
        for each in sets:
            if asked.only and each.name not in asked.only:
                continue
            outcomes = list(evaluate_objects(engines[name](), [each], protocol, journal))
            found.setdefault(name, {})[each.name] = total(outcome.counts for outcome in outcomes)
            print(name, each.name, found[name][each.name].f1(), flush=True)
    print(object_table(found))


if __name__ == "__main__":
    main()
