"""``napari-fewshot demo``: the main job without a window, on a real sample and two synthetic ones, one with objects."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fewshot.cli.failures import in_one_sentence

if TYPE_CHECKING:  # they bring numpy and scikit-image
    from rich.console import Console

    from napari_fewshot.cli.rehearsal import Outcome, Report, Step
    from napari_fewshot.io.samples import Sample

_TILE_TO_TEACH = 3  # about two thirds epithelium: both classes are well seen
_SLICE_TO_TEACH = 5  # the middle of the stack, where a person would start
_SLICE_TO_NUMBER = 4  # the same of the stack of which cells are numbered


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the results; those of an earlier demo in it are replaced.")
    ] = Path("demo-output"),
    method: Annotated[str, typer.Option(help="How masks are computed, see 'napari-fewshot methods'.")] = "auto",
    backbone: Annotated[str, typer.Option(help="What computes features; 'auto' needs no download.")] = "auto",
    device: Annotated[str, typer.Option(help="cuda, mps, cpu, or 'auto' for the fastest there is.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the synthetic stack: another seed, other cells.", min=0)] = 0,
) -> None:
    """Teach one image, propose for the others, correct one, propose again, export.

    Works on tiles of a real tissue section and on a synthetic stack of cells;
    in a third one, cells that touch are numbered as well.

    Writes label TIFFs and overlay pictures, and touches nothing else.
    """
    from rich.console import Console

    with in_one_sentence():
        from napari_fewshot.cli.rehearsal import rehearse, write
        from napari_fewshot.io.atomic import make_folder
        from napari_fewshot.io.samples import cells_sample, ihc_sample, numbered_sample
        from napari_fewshot.models import load_segmenter  # torch comes with it

        console = Console(highlight=False)
        make_folder(out)
        console.print("Loading ...", style="dim")
        segmenter = load_segmenter(method, backbone=backbone, device=device)
        console.print(f"Method: {segmenter.name}")
        written: list[Path] = []
        for sample, first in (
            (ihc_sample(), _TILE_TO_TEACH),
            (cells_sample(seed), _SLICE_TO_TEACH),
            (numbered_sample(seed), _SLICE_TO_NUMBER),
        ):
            _introduce(console, sample)
            if sample.instances:
                segmenter = load_segmenter(method, backbone=backbone, device=device, instances=True)
            with _progress(console, len(sample.frames)) as report:
                outcome = rehearse(sample, segmenter, first, report)
            _print_table(console, outcome)
            written += write(outcome, out)
        console.print("\nWritten:")
        for path in written:
            console.print(f"  {path}", soft_wrap=True)


def _introduce(console: "Console", sample: "Sample") -> None:
    console.print(f"\n[bold]{sample.title}[/bold], {len(sample.frames)} frames")
    if sample.masks_are_true:
        numbered = " Cells that touch are told apart: F1 is that of cells." if sample.instances else ""
        console.print(f"The true masks are {sample.rule}.{numbered}", style="dim", soft_wrap=True)
    else:
        console.print(
            f"Nobody painted here: a mask computed by a rule ({sample.rule}) stands in for a person's, "
            "and IoU is measured against the same rule.",
            style="dim",
            soft_wrap=True,
        )


@contextmanager
def _progress(console: "Console", frames: int) -> "Iterator[Report]":
    """Show a bar with the time that is left on a terminal, and a line for each proposal elsewhere."""
    if not console.is_terminal:
        yield lambda step: console.print(f"pass {step.pass_number}, {step.done} of {step.total}: {step.name}")
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        # all frames but the taught one in the first pass, and but the corrected one in the second
        task = progress.add_task("Learning", total=2 * frames - 3)

        def report(step: "Step") -> None:
            words = "Proposing" if step.pass_number == 1 else "Proposing again"
            progress.update(task, advance=1, description=f"{words}: {step.name}")

        yield report


def _print_table(console: "Console", outcome: "Outcome") -> None:
    from rich.table import Table

    measures = ("score", "IoU", "F1" if outcome.f1 else "seconds")
    learning = "" if outcome.f1 else "; the first frame of a pass includes learning"
    table = Table(caption=f"score: expected IoU{learning}", caption_justify="left")
    table.add_column("slice", no_wrap=True)
    for heading in (*measures, "score again", "IoU again", "F1 again" if outcome.f1 else "seconds"):
        table.add_column(heading, justify="right")
    for frame in outcome.sample.frames:
        before, after = outcome.before.get(frame.key), outcome.after.get(frame.key)
        if before is None:
            table.add_row(frame.name, "taught")
        else:
            table.add_row(frame.name, *_cells(before), *(_cells(after) if after else ["corrected"]))
    console.print(table)
    was, became = outcome.mean_iou
    console.print(
        f"Mean IoU of the {len(outcome.after)} frames that nobody touched: {was:.3f} before the correction, "
        f"{became:.3f} after it.",
        soft_wrap=True,
    )
    if outcome.f1 is not None:
        then, now, together = outcome.f1
        console.print(
            f"F1 of their objects: {then:.3f} and {now:.3f}; {together:.3f} if what is connected was one object.",
            soft_wrap=True,
        )


def _cells(step: "Step") -> list[str]:
    last = f"{step.seconds:.2f}" if step.objects is None else "none" if step.f1 is None else f"{step.f1:.2f}"
    return [f"{step.score:.2f}", f"{step.iou:.2f}", last]
