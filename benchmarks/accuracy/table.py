"""Turn results of the yardstick into the table of docs/benchmarks.md.

    python benchmarks/accuracy/table.py peer=peer.json auto=auto.json ridge=ridge.json

Each file is what the yardstick wrote with --json for one engine or method. Prints Markdown: a row per data set, a
column per engine and number of shots, mean IoU in each cell, and the means over all sets below.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> None:
    results = {name: json.loads(Path(file).read_text()) for name, file in (a.split("=", 1) for a in arguments)}
    shots = sorted({key for result in results.values() for row in result["sets"].values() for key in row})
    columns = [(name, k) for k in shots for name in results]
    print("| data set | " + " | ".join(f"{name}, {k}" for name, k in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for dataset in [name for name, row in next(iter(results.values()))["sets"].items() if row]:
        print(
            f"| {dataset} | "
            + " | ".join(cell(results[name]["sets"].get(dataset, {}), k) for name, k in columns)
            + " |"
        )
    means = [cell(results[name]["mean"], k) for name, k in columns]
    print("| **mean** | " + " | ".join(f"**{mean}**" if mean else "" for mean in means) + " |")


def cell(row: dict[str, Any], key: str) -> str:
    return f"{row[key]['iou']:.3f}" if key in row else ""


if __name__ == "__main__":
    main(sys.argv[1:])
