"""``napari-fewshot evaluate``: how good methods are, on benchmarks of the literature and on data sets in folders."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fewshot.cli.failures import INTERRUPTED, in_one_sentence

if TYPE_CHECKING:  # they bring numpy
    from rich.console import Console

    from napari_fewshot.evaluation.pools import Pool, Report
    from napari_fewshot.segmenter import FewShotSegmenter

evaluate = typer.Typer(
    name="evaluate",
    help="Measure methods on PASCAL-5i, COCO-20i, FSS-1000, or on your own labelled images.",
    no_args_is_help=True,
)

Data = Annotated[Path, typer.Option(help="Folder that holds the data set, as it is published.", show_default=False)]
Methods = Annotated[
    list[str] | None,
    typer.Option(help="Again for several; 'all' for every method. (default: auto)", show_default=False),
]
Backbones = Annotated[list[str] | None, typer.Option(help="Again for several. (default: auto)", show_default=False)]
Device = Annotated[str, typer.Option(help="cuda, mps, cpu, or 'auto' for the fastest there is.")]
Shots = Annotated[list[int] | None, typer.Option(help="Labelled images of each class; again for several. (default: 1)")]
Folds = Annotated[list[int] | None, typer.Option(help="0 to 3; again for several. (default: all)", show_default=False)]
Ways = Annotated[int, typer.Option(help="Classes to tell apart in an episode.", min=1)]
Episodes = Annotated[int, typer.Option(help="Queries for each fold and number of shots.", min=1)]
Seed = Annotated[int, typer.Option(help="Of the episodes: another seed, other images.", min=0)]
Size = Annotated[int | None, typer.Option(help="Squash images to squares of so many pixels, as papers do.", min=16)]
LeastArea = Annotated[
    int, typer.Option(help="Pixels of a class from which on an image is taken to show it (PFENet: 2048).", min=0)
]
Out = Annotated[Path | None, typer.Option(help="Folder for what was measured; evaluation-output/BENCHMARK by default.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure again what is there, after a change of the code, say.")]


@evaluate.command("pascal-5i")
def pascal(
    data: Data,
    method: Methods = None,
    backbone: Backbones = None,
    shots: Shots = None,
    fold: Folds = None,
    ways: Ways = 1,
    episodes: Episodes = 1000,
    seed: Seed = 0,
    size: Size = None,
    least_area: LeastArea = 2048,
    images: Annotated[str, typer.Option(help="List of ImageSets/Segmentation.")] = "val",
    device: Device = "auto",
    out: Out = None,
    fresh: Fresh = False,
) -> None:
    """Measure on PASCAL VOC 2012 (JPEGImages, SegmentationClassAug or SegmentationClass, ImageSets)."""

    def pools(report: "Report") -> "Sequence[Pool]":
        from napari_fewshot.evaluation.pascal import pascal_pools

        return pascal_pools(data, _folds(fold), images=images, least_area=least_area, report=report)

    _benchmark("pascal-5i", pools, Asked(method, backbone, shots, device, out, fresh), ways, episodes, seed, size)


@evaluate.command("coco-20i")
def coco(
    data: Data,
    method: Methods = None,
    backbone: Backbones = None,
    shots: Shots = None,
    fold: Folds = None,
    partition: Annotated[
        str, typer.Option(help="interleaved (FWB, PFENet, HSNet and most later papers) or contiguous (PANet).")
    ] = "interleaved",
    ways: Ways = 1,
    episodes: Episodes = 1000,
    seed: Seed = 0,
    size: Size = None,
    least_area: LeastArea = 2048,
    images: Annotated[str, typer.Option(help="Part of COCO: val2014, train2014, val2017 or train2017.")] = "val2014",
    device: Device = "auto",
    out: Out = None,
    fresh: Fresh = False,
) -> None:
    """Measure on MS COCO (val2014, annotations/instances_val2014.json), with the partition that you name."""

    def pools(report: "Report") -> "Sequence[Pool]":
        from typing import cast

        from napari_fewshot.evaluation.coco import Partition, coco_pools

        chosen = cast(Partition, partition)  # checked there
        return coco_pools(data, _folds(fold), partition=chosen, images=images, least_area=least_area, report=report)

    _benchmark("coco-20i", pools, Asked(method, backbone, shots, device, out, fresh), ways, episodes, seed, size)


@evaluate.command("fss-1000")
def fss(
    data: Data,
    method: Methods = None,
    backbone: Backbones = None,
    shots: Shots = None,
    ways: Ways = 1,
    episodes: Episodes = 1000,
    seed: Seed = 0,
    size: Size = None,
    device: Device = "auto",
    out: Out = None,
    fresh: Fresh = False,
) -> None:
    """Measure on the test classes of FSS-1000 (a folder for each class, with 1.jpg and 1.png to 10.jpg and 10.png)."""

    def pools(_: "Report") -> "Sequence[Pool]":
        from napari_fewshot.evaluation.fss import fss_pools

        return fss_pools(data)

    _benchmark("fss-1000", pools, Asked(method, backbone, shots, device, out, fresh), ways, episodes, seed, size)


@evaluate.command()
def folder(
    data: Annotated[Path, typer.Option(help="Folder of data sets: SET/images/*.png and SET/labels/*.png.")],
    method: Methods = None,
    backbone: Backbones = None,
    shots: Annotated[
        list[int] | None, typer.Option(help="Images to learn from; again for several. (default: 1)")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--set", help="Only this data set; again for several.")] = None,
    seeds: Annotated[
        int, typer.Option(help="Orders of the images to draw, over which figures are averaged.", min=1)
    ] = 3,
    queries: Annotated[
        int | None, typer.Option(help="Images to judge on, of those that were not taught; by default all.", min=1)
    ] = None,
    device: Device = "auto",
    out: Out = None,
    fresh: Fresh = False,
) -> None:
    """Measure on labelled images of your own: learn from the first few, judge on the others."""
    asked = Asked(method, backbone, shots, device, out, fresh)
    with resumable():
        from napari_fewshot.evaluation.folders import (
            FolderProtocol,
            choose_sets,
            evaluate_sets,
            find_sets,
            folder_journal_settings,
        )
        from napari_fewshot.evaluation.metrics import mean
        from napari_fewshot.evaluation.tables import FolderRun, folder_numbers, folder_table, write_tables
        from napari_fewshot.io.journal import Journal

        protocol = FolderProtocol(asked.shots, seeds, queries)
        sets = choose_sets(find_sets(data), only, data)
        target = asked.out or Path("evaluation-output/folder")
        about = [
            f"{len(sets)} data sets of {data.name}, {seeds} order(s) of the images, "
            f"{'all other images' if queries is None else f'up to {queries} images'} as queries",
            "IoU: pixels of all queries added up for each class; mean over classes, orders and data sets",
            asked.version(),
        ]
        console = asked.console()
        runs: list[FolderRun] = []
        for method_name, backbone_name, segmenter in asked.segmenters(console):
            file = target / "journal" / file_name(method_name, backbone_name)
            settings = folder_journal_settings(segmenter, protocol, features_of(segmenter))
            journal = Journal(file, settings, fresh=asked.fresh)
            title = f"{method_name}, {backbone_name}"
            outcomes = []
            with bar(console, title, len(sets) * len(protocol.shots) * seeds) as advance:
                for outcome in evaluate_sets(segmenter, sets, protocol, journal):
                    outcomes.append(outcome)
                    iou = "failed" if outcome.failure else f"IoU {shown(outcome.iou)}"
                    advance(f"{outcome.name}, {outcome.shots} shot(s): {iou}")
            runs.append(FolderRun(method_name, backbone_name, outcomes))
            console.print(f"{title}: IoU {shown(mean(o.iou for o in outcomes))}, {len(outcomes)} runs", soft_wrap=True)
            write_tables(target, folder_table(about, runs), about, folder_numbers(runs))
        tell(console, target)


def _benchmark(
    name: str,
    make_pools: "Callable[[Report], Sequence[Pool]]",
    asked: "Asked",
    ways: int,
    episodes: int,
    seed: int,
    size: int | None,
) -> None:
    with resumable():
        from napari_fewshot.evaluation.episodes import Protocol, Tally, journal_settings, usable_classes
        from napari_fewshot.evaluation.episodes import evaluate as outcomes_of
        from napari_fewshot.evaluation.tables import Run, benchmark_numbers, benchmark_table, write_tables
        from napari_fewshot.io.journal import Journal

        protocols = [Protocol(k, ways, episodes, seed, size) for k in asked.shots]
        console = asked.console()
        with console.status("Looking through the masks ...") as status:
            pools = make_pools(lambda done, total: status.update(f"Looking through the masks: {done:,} of {total:,}"))
        left_out = [
            pool.class_names[c] for pool in pools for c in pool.members if c not in usable_classes(pool, protocols[-1])
        ]
        about = [
            pools[0].about,
            f"{episodes:,} episodes for each fold, seed {seed}, {ways} class(es) each, one query",
            "images as they are" if size is None else f"images and masks squashed to {size} x {size} px",
            *([f"without {', '.join(left_out)}: too few images for {protocols[-1].shots} shot(s)"] if left_out else []),
            asked.version(),
        ]
        for line in about:
            console.print(line, style="dim", soft_wrap=True)
        target = asked.out or Path("evaluation-output") / name
        runs: list[Run] = []
        for method, backbone, segmenter in asked.segmenters(console):
            for protocol in protocols:
                for pool in pools:
                    where = "" if pool.fold is None else f"fold{pool.fold}-"
                    file = file_name(method, backbone, f"{where}{protocol.shots}shot")
                    settings = journal_settings(segmenter, pool, protocol, features_of(segmenter))
                    journal = Journal(target / "journal" / file, settings, fresh=asked.fresh)
                    fold = "" if pool.fold is None else f", fold {pool.fold}"
                    title = f"{method}, {backbone}{fold}, {protocol.shots} shot(s)"
                    total = Tally()
                    with bar(console, title, episodes) as advance:
                        for outcome in outcomes_of(segmenter, pool, protocol, journal):
                            total.add(outcome)
                            advance(f"mIoU {shown(total.totals.scores().miou)}")
                    summary = total.summary()
                    runs.append(Run(method, backbone, protocol.shots, pool.fold, summary, pool.class_names))
                    scores = summary.scores
                    console.print(
                        f"{title}: mIoU {shown(scores.miou)}, FB-IoU {shown(scores.fb_iou)}, "
                        f"Dice {shown(scores.dice)}, {summary.features + summary.method:.2f} s per image",
                        soft_wrap=True,
                    )
                    page = benchmark_table(pool.name, about, runs)
                    write_tables(target, page, about, benchmark_numbers(runs))
        tell(console, target)


class Asked:
    """Which segmenters to measure, and where results go."""

    def __init__(
        self,
        methods: list[str] | None,
        backbones: list[str] | None,
        shots: list[int] | None,
        device: str,
        out: Path | None,
        fresh: bool,
    ) -> None:
        self.methods = tuple(dict.fromkeys(methods or ["auto"]))
        self.backbones = tuple(dict.fromkeys(backbones or ["auto"]))
        self.shots = tuple(sorted(set(shots or [1])))
        self.device = device
        self.out = out
        self.fresh = fresh

    def version(self) -> str:
        """What measures, and where."""
        from napari_fewshot import __version__
        from napari_fewshot.models.devices import choose_device

        return f"napari-fewshot {__version__}, device {choose_device(self.device)}"

    @staticmethod
    def console() -> "Console":
        """Make what is written to."""
        from rich.console import Console

        return Console(highlight=False)

    def segmenters(
        self, console: "Console", *, instances: bool = False
    ) -> "Iterator[tuple[str, str, FewShotSegmenter]]":
        """Load one after the other, with objects if asked for; names that mean nothing are refused before the first."""
        from napari_fewshot.errors import SettingsError
        from napari_fewshot.models import licence_notice, list_segmenters, load_segmenter
        from napari_fewshot.models.registry import backbone_card

        cards = {card.name: card for card in list_segmenters()}
        known = list(cards)
        methods = known if "all" in self.methods else list(self.methods)
        for method in methods:
            if method not in known:
                raise SettingsError(f"there is no method '{method}'; choose one of: all, {', '.join(known)}")
        backbones = [backbone_card(backbone).name for backbone in self.backbones]
        for backbone in backbones:
            if notice := licence_notice(backbone):
                console.print(notice, style="dim", soft_wrap=True)
            for method in methods:
                try:
                    load = partial(load_segmenter, instances=True) if instances else load_segmenter
                    segmenter = load(method, backbone=backbone, device=self.device)
                except SettingsError as error:
                    if "all" not in self.methods or not cards[method].needs_head:
                        raise
                    console.print(f"{method}, {backbone}: left out, {error}", style="dim", soft_wrap=True)
                    continue
                yield method, backbone, segmenter


@contextmanager
def resumable() -> Iterator[None]:
    """Say after Ctrl+C that nothing is lost."""
    with in_one_sentence():
        try:
            yield
        except KeyboardInterrupt as interrupt:
            typer.echo("napari-fewshot: stopped; the same command goes on from there", err=True)
            raise typer.Exit(INTERRUPTED) from interrupt


@contextmanager
def bar(console: "Console", title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar with the time that is left on a terminal, and nothing elsewhere."""
    if not console.is_terminal:
        yield lambda told: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, told="")
        yield lambda told: progress.update(task, advance=1, told=told)


def features_of(segmenter: "FewShotSegmenter") -> str:
    """What its features and answers depend on, hashes of trained weights included."""
    from napari_fewshot.models.feature_segmenter import FeatureSegmenter

    segmenter = getattr(segmenter, "classes", segmenter)  # of one that tells objects apart
    if not isinstance(segmenter, FeatureSegmenter):
        return ""
    head = getattr(segmenter.method, "key", "")  # of methods with a trained head
    return f"{segmenter.extractor.key}|{head}" if head else segmenter.extractor.key


def _folds(chosen: list[int] | None) -> tuple[int, ...]:
    return tuple(sorted(set(chosen))) if chosen else (0, 1, 2, 3)


def file_name(*parts: str) -> str:
    """Name the journal of a run."""
    return re.sub(r"[^\w.-]+", "_", "-".join(parts)) + ".jsonl"


def shown(value: float | None) -> str:
    """Write a figure, or a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def tell(console: "Console", target: Path) -> None:
    """Say what was written."""
    console.print(f"Written: {target / 'table.md'}, {target / 'results.json'}", soft_wrap=True)
