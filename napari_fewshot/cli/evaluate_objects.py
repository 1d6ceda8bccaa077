"""``napari-fewshot evaluate objects``: how well touching objects are told apart on labelled images of your own."""

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


def objects(
    data: Annotated[
        Path, typer.Option(help="Folder of data sets: SET/images, SET/labels and SET/instances, the same file names.")
    ],
    method: Methods = None,
    backbone: Backbones = None,
    shots: Annotated[
        list[int] | None, typer.Option(help="Images to learn from; again for several. (default: 3)")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--set", help="Only this data set; again for several.")] = None,
    seeds: Annotated[int, typer.Option(help="Orders of the images to draw, whose objects are added up.", min=1)] = 3,
    queries: Annotated[
        int | None, typer.Option(help="Images to judge on, of those that were not taught; by default all.", min=1)
    ] = None,
    device: Device = "auto",
    out: Out = None,
    fresh: Fresh = False,
) -> None:
    """Measure how many objects are found: learn from the first few images, count on the others."""
    asked = Asked(method, backbone, shots or [3], device, out, fresh)
    with resumable():
        from napari_fewshot.evaluation.folders import FolderProtocol, choose_sets, folder_journal_settings
        from napari_fewshot.evaluation.instance_metrics import ObjectCounts
        from napari_fewshot.evaluation.instances import evaluate_objects, find_object_sets
        from napari_fewshot.evaluation.object_tables import object_numbers, object_table
        from napari_fewshot.evaluation.tables import write_tables
        from napari_fewshot.io.journal import Journal

        protocol = FolderProtocol(asked.shots, seeds, queries)
        sets = choose_sets(find_object_sets(data), only, data, having=" with objects")
        target = asked.out or Path("evaluation-output/objects")
        about = [
            f"{len(sets)} data sets of {data.name}, {seeds} order(s) of the images, "
            f"{'all other images' if queries is None else f'up to {queries} images'} as queries",
            "F1 and average precision TP / (TP + FP + FN); objects of all queries of a data set are added up",
            asked.version(),
        ]
        console = asked.console()
        found: dict[str, dict[str, ObjectCounts]] = {}
        for method_name, backbone_name, segmenter in asked.segmenters(console, instances=True):
            settings = {**folder_journal_settings(segmenter, protocol, features_of(segmenter)), "of": "objects"}
            file = target / "journal" / file_name(method_name, backbone_name)
            journal = Journal(file, settings, fresh=asked.fresh)
            with bar(console, method_name, len(sets) * len(protocol.shots) * seeds) as advance:
                for outcome in evaluate_objects(segmenter, sets, protocol, journal):
                    title = f"{method_name}, {backbone_name}, K={outcome.shots}"
                    counts = found.setdefault(title, {})
                    counts[outcome.name] = counts.get(outcome.name, ObjectCounts()) + outcome.counts
                    advance(f"{outcome.name}: {outcome.failure or f'F1 {shown(outcome.counts.f1())}'}")
            page = "\n\n".join(["# Objects", "\n".join(f"- {line}" for line in about), object_table(found)]) + "\n"
            write_tables(target, page, about, object_numbers(found))
        tell(console, target)
