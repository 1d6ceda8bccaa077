"""What was measured, as a table and as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

# Key, what it is, limit, unit.
_LIMITS: Final = (
    ("cold_over_backbone", "first propagation / bare forward, resnet18", 1.25, "×"),
    ("warm_over_cold", "all frames again after a correction / first propagation, resnet18", 0.15, "×"),
    ("visible_ms", "the frame on screen after a correction, slower of both backbones", 200, " ms"),
    ("cold_over_peer", "images to labels / random forest on multi-scale features", 0.5, "×"),
    ("peak_gib", "peak memory, large stack", 2.5, " GiB"),
    ("disk_gib", "features on the disk, large stack", 10, " GiB"),
    ("import_s", "import napari_fewshot", 0.3, " s"),
    ("dock_s", "open the dock", 1.0, " s"),
)


def table(found: Mapping[str, Any]) -> str:
    """Everything in Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    load = "" if found["load"] is None else f", load {found['load']:.1f} at the start"
    lines = [
        f"{found['cpu']}, {found['cores']} cores, {found['threads']} thread(s), device {found['device']}{load}; "
        f"{versions}",
        "",
        "| what | measured | at most | reached |",
        "|---|---|---|---|",
    ]
    for key, what, limit, unit in _LIMITS:
        value = found[key]
        told = "not measured" if value is None else f"{_short(value)}{unit}"
        lines.append(f"| {what} | {told} | {limit}{unit} | {_reached(value, limit)} |")
    lines += [
        "",
        "| per frame | bare forward | first propagation | / bare | again after a correction | / first | on screen |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, b in found["backbones"].items():
        lines.append(
            f"| {name} | {b['bare_ms']:.0f} ms | {b['cold_ms']:.0f} ms | {b['cold_over_backbone']:.2f} "
            f"| {b['warm_ms']:.0f} ms | {b['warm_over_cold']:.2f} | {b['visible_ms']:.0f} ms |"
        )
    lines += [
        "",
        f"{found['frames_per_second']:.2f} frames per second with resnet18, "
        f"{100 * found['share_in_backbone']:.0f} % of the time in the backbone",
        "",
        "| frames | side | backbone | s / frame | s / megapixel | / bare | peak after half | peak | before | disk |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    large = [found[key] for key in ("stack", "image") if found[key] is not None]
    for run in (*found["growth_with_frames"], *found["growth_with_side"], *large):
        per_slice = run["seconds_per_slice"]
        lines.append(
            f"| {run['slices']} | {run['side']} px | {run['backbone']} | {per_slice:.2f} "
            f"| {per_slice / run['side'] ** 2 * 1e6:.2f} | {per_slice / run['seconds_bare']:.2f} "
            f"| {run['peak_gib_first_half']:.2f} GiB | {run['peak_gib']:.2f} GiB | {run['idle_gib']:.2f} GiB "
            f"| {run['disk_gib']:.1f} GiB |"
        )
    return "\n".join(lines)


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw time per frame, and how time and memory grow."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    times, frames, sides = figure.subplots(1, 3)
    names = list(found["backbones"])
    for i, (key, label) in enumerate(
        (("bare_ms", "bare forward"), ("cold_ms", "first propagation"), ("warm_ms", "again after a correction"))
    ):
        heights = [found["backbones"][name][key] for name in names]
        bars = times.bar([x + 0.27 * (i - 1) for x in range(len(names))], heights, 0.25, label=label)
        times.bar_label(bars, fmt="%.0f")
    times.set_xticks(range(len(names)), names)
    times.set_ylabel("ms per frame")
    times.set_title("Time of a frame")
    times.margins(y=0.4)
    times.legend(frameon=False, loc="upper right")
    _growth(frames, found["growth_with_frames"], "slices", "frames")
    _growth(sides, found["growth_with_side"], "side", "side of a frame, px")
    figure.savefig(path, dpi=150)


def _growth(axes: Axes, runs: list[Mapping[str, Any]], key: str, label: str) -> None:
    """Total time and peak memory over what grows, both axes logarithmic, so that linear growth is a slope of 1."""
    x = [run[key] for run in runs]
    total = [run["seconds_per_slice"] * run["slices"] for run in runs]
    pixels = [run["slices"] * run["side"] ** 2 for run in runs]
    axes.loglog(x, total, "o-", color="C0", label="time, s")
    axes.loglog(x, [total[-1] * n / pixels[-1] for n in pixels], ":", color="C0", label="if linear in pixels")
    axes.loglog(x, [run["peak_gib"] for run in runs], "s-", color="C3", label="peak memory, GiB")
    axes.set_xticks(x, [str(value) for value in x])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_ylim(0.1)
    axes.set_xlabel(label)
    axes.set_title(f"Growth with {label.partition(',')[0]}")
    axes.legend(frameon=False, loc="upper left")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _reached(value: float | None, limit: float) -> str:
    return "–" if value is None else "yes" if value <= limit else "**no**"
