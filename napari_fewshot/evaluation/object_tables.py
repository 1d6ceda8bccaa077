"""Objects that were found, as a table in Markdown."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from napari_fewshot.evaluation.instance_metrics import ObjectCounts
from napari_fewshot.evaluation.metrics import mean


def object_table(found: Mapping[str, Mapping[str, ObjectCounts]]) -> str:
    """Make a table: a row for each data set, F1 and average precision of each segmenter, and the mean of all sets.

    Parameters
    ----------
    found
        Segmenter -> data set -> objects of all of its queries.

    Examples
    --------
    >>> print(object_table({"auto": {"cells": ObjectCounts((3,) * 9, 4, 4)}}))
    | data set | auto, F1@0.5 | auto, AP@0.5 | auto, AP@0.75 | auto, AP@0.5:0.9 |
    | --- | ---: | ---: | ---: | ---: |
    | cells | 0.750 | 0.600 | 0.600 | 0.600 |
    | **mean** | **0.750** | **0.600** | **0.600** | **0.600** |
    """
    names = list(dict.fromkeys(name for sets in found.values() for name in sets))
    heads = [f"{who}, {what}" for who in found for what in ("F1@0.5", "AP@0.5", "AP@0.75", "AP@0.5:0.9")]
    rows = {name: [value for sets in found.values() for value in _values(sets.get(name))] for name in names}
    means = [mean(row[i] for row in rows.values()) for i in range(len(heads))]
    lines = [["data set", *heads], ["---", *["---:"] * len(heads)]]
    lines += [[name, *map(_shown, row)] for name, row in rows.items()]
    lines += [["**mean**", *(f"**{_shown(value)}**" for value in means)]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def object_numbers(found: Mapping[str, Mapping[str, ObjectCounts]]) -> list[dict[str, Any]]:
    """Return the same as numbers for a JSON file: objects that are right at each IoU, proposed, and true."""
    return [
        {"segmenter": who, "set": name, **asdict(counts), "f1": counts.f1(), "ap": counts.mean_precision()}
        for who, sets in found.items()
        for name, counts in sets.items()
    ]


def _values(counts: ObjectCounts | None) -> list[float | None]:
    if counts is None:
        return [None] * 4
    return [counts.f1(), counts.precision(), counts.precision(0.75), counts.mean_precision()]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
