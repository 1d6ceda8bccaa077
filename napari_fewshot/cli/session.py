"""``napari-fewshot session``: what is in a saved session, and its propagation, without opening it in napari."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_fewshot.cli import options
from napari_fewshot.cli.failures import in_one_sentence
from napari_fewshot.cli.propagate import Out, Resume, carry_out_recipe, stoppable

session = typer.Typer(
    name="session",
    help="Look into sessions that the dock or Session.save wrote, and run them again.",
    no_args_is_help=True,
)

_Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a session.")]


@session.command()
def info(
    folder: _Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """Check a session and show what is in it; ends with 2 if it is damaged or of a newer version."""
    with in_one_sentence():
        from napari_fewshot.session.folder import describe

        found = describe(folder)
        if as_json:
            typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        else:
            _show(found)


@session.command()
def provenance(
    folder: _Folder,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Table to write: .csv or .json.")],
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it is there.")] = False,
) -> None:
    """Write who labelled how many pixels of each frame: people, the model, or people who corrected the model."""
    with in_one_sentence():
        from napari_fewshot.io.provenance_table import write_provenance
        from napari_fewshot.session import open_session

        write_provenance(out, open_session(folder).provenance(), overwrite=overwrite)
        typer.echo(f"Wrote {out}")


@session.command("run")
def run_again(
    folder: _Folder,
    out: Out,
    format: Annotated[
        list[str] | None,
        typer.Option(help="As for 'propagate'; again for several. (default: tiff)", show_default=False),
    ] = None,
    resume: Resume = False,
    overwrite: options.Overwrite = False,
    features: options.Features = None,
    features_gib: options.FeaturesGib = 10.0,
    cluster: options.Cluster = "",
    as_json: options.Json = False,
) -> None:
    """Propagate what was taught in a session onto all of its images, without the dock.

    [b]Example[/b]: napari-fewshot session run "my session" --out labels

    Images have to lie in files. What was painted goes into shots/ in the
    folder of the labels, and recipe.json beside it repeats the run. Proposals
    that were accepted or corrected count where they were taught. Ends like
    'propagate'.
    """
    with in_one_sentence(), stoppable():
        from napari_fewshot.batch.session_recipe import recipe_of
        from napari_fewshot.session import open_session

        recipe, left_out = recipe_of(open_session(folder).snapshot(), out, tuple(format or ["tiff"]))
        options.check_names(recipe.segmenter.method, recipe.segmenter.backbone)
        for each in left_out:
            typer.echo(f"napari-fewshot: {each}", err=True)
        cache = options.cache_settings(features, features_gib)
        carry_out_recipe(recipe, out, resume=resume, overwrite=overwrite, cache=cache, cluster=cluster, as_json=as_json)


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    settings = found["settings"]
    states = ", ".join(f"{count} {state}" for state, count in found["states"].items())
    rows = {
        "folder": found["folder"],
        "format": f"version {found['version']}, intact",
        "classes": ", ".join(found["classes"]) or "none",
        "frames": f"{found['frames']}" + (f" ({states})" if states else ""),
        "taught": f"{found['shots']} shot(s), {found['tags']} tag(s)",
        "open proposals": str(found["proposals"]),
        "segmenter": f"{settings['method']} on {settings['backbone']} ({settings['device']})",
        **{f"weights, {part}": key for part, key in found["weights"].items()},
        **{f"image {name}": path for name, path in found["images"].items()},
        **{f"image {name}": f"missing; it was at {path}" for name, path in found["missing"].items()},
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(highlight=False, markup=False, soft_wrap=True).print(table)
