"""``napari-fewshot evaluate volumes``: what neighbouring slices bring, on labelled stacks of your own."""

from pathlib import Path
from typing import Annotated

import typer

from napari_fewshot.cli.evaluate import (
    Asked,
    Backbones,
    Device,
    Fresh,
    Methods,
    Out,
    bar,
    features_of,
    file_name,
    resumable,
    shown,
    tell,
)


def volumes(
    data: Annotated[
        Path, typer.Option(help="Folder of stacks: SET/images and SET/labels, a file for each slice, named in order.")
    ],
    method: Methods = None,
    backbone: Backbones = None,
    shots: Annotated[
        list[int] | None, typer.Option(help="Slices to learn from; again for several. (default: 1 and 3)")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--set", help="Only this stack; again for several.")] = None,
    step: Annotated[float, typer.Option(help="Distance of two slices, in pixels.", min=0.01)] = 4.0,
    device: Device = "auto",
    out: Out = None,
    fresh: Fresh = False,
) -> None:
    """Measure what neighbouring slices bring: proposals of each slice by itself, and of all together."""
    asked = Asked(method, backbone, shots or [1, 3], device, out, fresh)
    with resumable():
        from napari_fewshot.evaluation.folders import FolderProtocol, choose_sets, find_sets, folder_journal_settings
        from napari_fewshot.evaluation.tables import write_tables
        from napari_fewshot.evaluation.volumes import LabelledStack, VolumeOutcome, evaluate_volumes, volume_table
        from napari_fewshot.io.journal import Journal

        chosen = choose_sets(find_sets(data), only, data, "stack")
        target = asked.out or Path("evaluation-output/volumes")
        about = [
            f"{len(chosen)} stack(s) of {data.name}, {step:g} pixels from slice to slice; all other slices are judged",
            "off: each slice by itself; on: together with its neighbours, with weights learnt from the shots",
            "flicker: of pixels whose true label stays from one slice to the next, those whose proposed label changes",
            asked.version(),
        ]
        console = asked.console()
        found: dict[str, list[VolumeOutcome]] = {}
        for method_name, backbone_name, segmenter in asked.segmenters(console):
            settings = folder_journal_settings(segmenter, FolderProtocol(asked.shots), features_of(segmenter))
            file = target / "journal" / file_name(method_name, backbone_name)
            journal = Journal(file, {**settings, "of": "volumes"}, fresh=asked.fresh)
            title = f"{method_name}, {backbone_name}"
            outcomes = found.setdefault(title, [])
            with bar(console, title, len(chosen) * len(asked.shots)) as advance:
                for data_set in chosen:
                    for outcome in evaluate_volumes(
                        segmenter, [LabelledStack.of(data_set, step)], asked.shots, journal
                    ):
                        outcomes.append(outcome)
                        line = outcome.failure or f"mIoU {shown(outcome.off)} -> {shown(outcome.on)}"
                        advance(f"{outcome.name}, {outcome.shots} shot(s): {line}")
            parts = ["# Volumes", "\n".join(f"- {line}" for line in about)]
            parts += [f"## {title}\n\n{volume_table(each)}" for title, each in found.items()]
            numbers = [{"segmenter": who, **vars(each)} for who, outcomes in found.items() for each in outcomes]
            write_tables(target, "\n\n".join(parts) + "\n", about, numbers)
        tell(console, target)
