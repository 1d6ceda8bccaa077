"""Draw results of the yardstick: mean IoU against the number of shots, a line for each of them.

    python benchmarks/accuracy/plot.py docs/images/ablation.png "auto on mica=a.json" "ridge on mica=b.json" ...

Only data sets that have a figure for every number of shots in every file are averaged, so that lines can be compared.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

_STYLES = ("-", "--", ":", "-.")


def main(picture: str, arguments: list[str]) -> None:
    results = {name: json.loads(Path(file).read_text())["sets"] for name, file in (a.split("=", 1) for a in arguments)}
    shots = sorted({int(key[2:]) for sets in results.values() for row in sets.values() for key in row})
    everywhere = [
        name
        for name in next(iter(results.values()))
        if all(f"K={k}" in sets.get(name, {}) for sets in results.values() for k in shots)
    ]
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    methods = list(dict.fromkeys(name.split(" on ")[0] for name in results))
    backbones = list(dict.fromkeys(name.split(" on ")[-1] for name in results))
    for name, sets in results.items():
        means = [np.mean([sets[s][f"K={k}"]["iou"] for s in everywhere]) for k in shots]
        method, backbone = name.split(" on ")[0], name.split(" on ")[-1]
        style = _STYLES[methods.index(method) % len(_STYLES)]
        axes.plot(shots, means, style, marker="o", color=f"C{backbones.index(backbone)}", label=name)
    axes.set(xlabel="labelled images (K)", ylabel=f"mean IoU over {len(everywhere)} data sets", xticks=shots)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="lower right")
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
