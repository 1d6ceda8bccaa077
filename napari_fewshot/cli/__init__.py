"""The command line: ``napari-fewshot VERB``, one file per verb.

Nothing heavy is imported before a verb runs, so that ``--help`` answers at once.
"""

from typing import Annotated

import typer

from napari_fewshot import __version__
from napari_fewshot.cli.demo import demo
from napari_fewshot.cli.evaluate import evaluate
from napari_fewshot.cli.evaluate_objects import objects as evaluate_objects
from napari_fewshot.cli.evaluate_volumes import volumes as evaluate_volumes
from napari_fewshot.cli.export import export
from napari_fewshot.cli.extract import extract
from napari_fewshot.cli.methods import methods
from napari_fewshot.cli.objects import objects
from napari_fewshot.cli.options import WithPairs
from napari_fewshot.cli.propagate import propagate, run
from napari_fewshot.cli.session import session
from napari_fewshot.cli.train import train
from napari_fewshot.cli.weights import weights

app = typer.Typer(
    name="napari-fewshot",
    help="Paint one mask, get proposals everywhere else: few-shot mask propagation without a window.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)
app.command(cls=WithPairs)(propagate)
app.command(cls=WithPairs)(objects)
app.command()(run)
app.command()(export)
app.command()(extract)
app.command()(demo)
app.command()(methods)
app.command()(train)
evaluate.command("objects")(evaluate_objects)
evaluate.command("volumes")(evaluate_volumes)
app.add_typer(evaluate)
app.add_typer(session)
app.add_typer(weights)


def main() -> None:
    """Run the command line; what ``napari-fewshot`` starts."""
    app(prog_name="napari-fewshot")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-fewshot {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
