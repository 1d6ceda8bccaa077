"""What was measured, as a table in Markdown and as JSON."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from napari_fewshot.evaluation.episodes import Summary
from napari_fewshot.evaluation.folders import SetOutcome
from napari_fewshot.evaluation.metrics import mean
from napari_fewshot.io.atomic import replacing

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Run:
    """What one segmenter was asked on a benchmark, and what it reached.

    Attributes
    ----------
    method, backbone
        By name.
    shots
        K.
    fold
        None where there are none.
    summary
        What it reached.
    class_names
        Of the classes in the summary.
    """

    method: str
    backbone: str
    shots: int
    fold: int | None
    summary: Summary
    class_names: Mapping[int, str]


@dataclass(frozen=True)
class FolderRun:
    """The same for data sets in folders."""

    method: str
    backbone: str
    outcomes: Sequence[SetOutcome]


def benchmark_table(title: str, about: Iterable[str], runs: Sequence[Run]) -> str:
    """Lay out runs on a benchmark: one row per segmenter and number of shots, folds side by side, then their mean.

    Figures are percent, as in papers; seconds are those of one query, features included.
    """
    folds = sorted({run.fold for run in runs if run.fold is not None})
    heads = ["method", "backbone", "shots", *(f"fold {fold}" for fold in folds), "mIoU", "FB-IoU", "Dice"]
    rows = []
    for (method, backbone, shots), group in _grouped(runs, lambda run: (run.method, run.backbone, run.shots)):
        by_fold = {run.fold: run.summary.scores.miou for run in group}
        scores = [run.summary.scores for run in group]
        rows.append(
            [
                method,
                backbone,
                str(shots),
                *(_percent(by_fold.get(fold)) for fold in folds),
                _percent(mean(each.miou for each in scores)),
                _percent(mean(each.fb_iou for each in scores)),
                _percent(mean(each.dice for each in scores)),
                _seconds(mean(run.summary.features + run.summary.method for run in group)),
                _counted(run.summary.episodes for run in group),
            ]
        )
    failures = sum(run.summary.failures for run in runs)
    notes = [f"In {failures} episodes nothing was proposed; they count as background."] if failures else []
    return _page(title, about, [("", _markdown([*heads, "s / image", "episodes"], rows, left=2))], notes)


def folder_table(about: Iterable[str], runs: Sequence[FolderRun]) -> str:
    """Lay out runs on data sets: means over all of them by segmenter, then each data set by number of shots.

    IoU in [0, 1]: mean over orders, then over data sets.
    """
    shots = sorted({outcome.shots for run in runs for outcome in run.outcomes})
    reached = {(run.method, run.backbone): _by_set(run.outcomes) for run in runs}
    heads = [f"IoU, K = {k} ({len({o.name for r in runs for o in r.outcomes if o.shots == k})} sets)" for k in shots]
    rows = []
    for run in runs:
        cells = reached[run.method, run.backbone]
        means = [_share(mean(iou for (_, k), iou in cells.items() if k == each)) for each in shots]
        rows.append([run.method, run.backbone, *means, *_times(run.outcomes)])
    tables = [
        ("", _markdown(["method", "backbone", *heads, "features, s / image", "method, s / image"], rows, left=2)),
    ]
    for backbone, group in _grouped(runs, lambda run: run.backbone):
        for k in shots:
            names = sorted({o.name for run in group for o in run.outcomes if o.shots == k})
            rows = [[n, *(_share(reached[run.method, backbone].get((n, k))) for run in group)] for n in names]
            tables.append(
                (f"{backbone}, K = {k}", _markdown(["data set", *(run.method for run in group)], rows, left=1))
            )
    failures = sorted({f"{run.method} on {o.name}: {o.failure}" for run in runs for o in run.outcomes if o.failure})
    return _page("Data sets in folders", about, tables, [f"Left out, {each}" for each in failures])


def benchmark_numbers(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return every number of runs on a benchmark, for JSON."""
    return [
        {
            "method": run.method,
            "backbone": run.backbone,
            "shots": run.shots,
            "fold": run.fold,
            "miou": run.summary.scores.miou,
            "fb_iou": run.summary.scores.fb_iou,
            "dice": run.summary.scores.dice,
            "class_iou": {run.class_names[c]: iou for c, iou in run.summary.scores.class_iou.items()},
            "episodes": run.summary.episodes,
            "failures": run.summary.failures,
            "features_s": round(run.summary.features, 4),
            "method_s": round(run.summary.method, 4),
        }
        for run in runs
    ]


def folder_numbers(runs: Sequence[FolderRun]) -> list[dict[str, Any]]:
    """Return every number of runs on data sets, for JSON."""
    return [
        {"method": run.method, "backbone": run.backbone, "outcomes": [asdict(outcome) for outcome in run.outcomes]}
        for run in runs
    ]


def write_tables(folder: Path, page: str, about: Sequence[str], numbers: list[dict[str, Any]]) -> None:
    """Write ``table.md`` and ``results.json``, each completely or not at all.

    Raises
    ------
    ExportError
        If one cannot be written.
    """
    told = json.dumps({"about": list(about), "runs": numbers}, indent=1, allow_nan=False)
    for name, text in (("table.md", page), ("results.json", told + "\n")):
        with replacing(os.fspath(folder / name), overwrite=True) as file:
            file.write(text.encode())


def _by_set(outcomes: Iterable[SetOutcome]) -> dict[tuple[str, int], float | None]:
    return {
        key: mean(outcome.iou for outcome in group) for key, group in _grouped(outcomes, lambda o: (o.name, o.shots))
    }


def _times(outcomes: Sequence[SetOutcome]) -> list[str]:
    features = [outcome.features for outcome in outcomes if outcome.features is not None]
    methods = [outcome.method for outcome in outcomes if outcome.method is not None]
    return [_seconds(median(times) if times else None) for times in (features, methods)]


def _grouped(items: Iterable[V], key: Callable[[V], K]) -> list[tuple[K, list[V]]]:
    groups: dict[K, list[V]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _page(title: str, about: Iterable[str], tables: Iterable[tuple[str, str]], notes: Iterable[str]) -> str:
    parts = [f"# {title}", "\n".join(f"- {line}" for line in about)]
    for heading, table in tables:
        parts += [f"## {heading}", table] if heading else [table]
    return "\n\n".join([*parts, *notes]) + "\n"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(heads))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _counted(numbers: Iterable[int]) -> str:
    values = sorted(set(numbers))
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"
