"""Find out how well the score of a proposal tells its true IoU, and the two numbers that bring it to that scale.

    python benchmarks/accuracy/score.py FOLDER [FOLDER ...]

Each folder holds data sets, ``<set>/images/*.png`` and ``<set>/labels/*.png``. For every set, K = 1, 3, 5 and two
seeds, K images with complete masks are taught and eight others proposed for. Prints the Spearman correlation of the
score with the true IoU over the images of a set, averaged over sets, and the mean error; for the first folder, which
should be what weights were trained on, slope and offset that fit best: they stand in `models/blocks/quality.py`.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import spearmanr
from skimage import io

from napari_fewshot import Frame, Shot, SupportSet, load_segmenter
from napari_fewshot.models.blocks import quality
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.support import UNLABELLED

Row = tuple[tuple[str, int, int], float, float]  # (set, K, seed), score, true IoU


def main(folders: list[str]) -> None:
    for number, folder in enumerate(folders):
        rows = [row for path in sorted(Path(folder).iterdir()) if (path / "labels").is_dir() for row in measured(path)]
        report(folder, rows)
        if number == 0:
            fit(rows)


def measured(path: Path) -> list[Row]:
    """Teach and propose on one set; images where nothing was found, and nothing is, are left out."""
    files = sorted(p.name for p in (path / "images").glob("*.png"))
    images = [io.imread(path / "images" / f) for f in files]
    labels = [io.imread(path / "labels" / f).astype(np.int32) for f in files]
    segmenter = load_segmenter(device="cpu", cache=FeatureCache())
    rows = []
    for shots in (1, 3, 5):
        for seed in range(2):
            order = np.random.default_rng(1000 * seed + 7).permutation(len(files))
            taught = [i for i in order if ((labels[i] > 0) & (labels[i] != UNLABELLED)).mean() >= 0.001][:shots]
            asked = [i for i in order if i not in taught][:8]
            if len(taught) < shots or len(asked) < 4:
                continue
            concept = segmenter.learn(SupportSet([Shot(Frame(files[i], images[i]), labels[i]) for i in taught]))
            for i in asked:
                proposal = concept.propose(Frame(files[i], images[i]))
                iou = mean_iou(proposal.labels, labels[i], proposal.class_ids)
                if iou is not None:
                    rows.append(((path.name, shots, seed), proposal.score, iou))
    return rows


def mean_iou(guess: npt.NDArray[Any], truth: npt.NDArray[Any], class_ids: tuple[int, ...]) -> float | None:
    """Mean over the classes that are there or were found."""
    seen = truth != UNLABELLED
    pairs = [(seen & (guess == c), seen & (truth == c)) for c in class_ids]
    ious = [(g & t).sum() / (g | t).sum() for g, t in pairs if (g | t).any()]
    return float(np.mean(ious)) if ious else None


def report(folder: str, rows: list[Row]) -> None:
    """Print rank and error."""
    for shots in (1, 3, 5):
        groups: dict[tuple[str, int, int], list[tuple[float, float]]] = defaultdict(list)
        for key, score, iou in rows:
            if key[1] == shots:
                groups[key].append((score, iou))
        ranks = defaultdict(list)
        for key, pairs in groups.items():
            scores, ious = np.transpose(pairs)
            if len(pairs) > 3 and np.ptp(scores) and np.ptp(ious):
                ranks[key[0]].append(spearmanr(scores, ious).statistic)
        error = np.mean([abs(score - iou) for key, score, iou in rows if key[1] == shots])
        print(f"{folder}, K={shots}: rank {np.mean([np.mean(v) for v in ranks.values()]):.3f}, mean error {error:.3f}")


def fit(rows: list[Row]) -> None:
    """Print slope and offset for which the mean squared error, every set weighing the same, is least."""
    per_set: dict[str, int] = defaultdict(int)
    for key, _, _ in rows:
        per_set[key[0]] += 1
    weights = np.array([1 / per_set[key[0]] for key, _, _ in rows])
    scores = np.clip([score for _, score, _ in rows], 1e-6, 1 - 1e-6)
    evidence = (logit(scores) - quality._OFFSET) / quality._SLOPE
    ious = np.array([iou for _, _, iou in rows])
    found = minimize(lambda p: (weights * (expit(p[0] * evidence + p[1]) - ious) ** 2).sum(), [0.5, 0.0])
    print(f"slope {found.x[0]:.3f}, offset {found.x[1]:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
