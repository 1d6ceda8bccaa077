"""``napari-fewshot methods``: what ``--method`` and ``--backbone`` may be, and the card of each method."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_fewshot.cli import options
from napari_fewshot.cli.failures import in_one_sentence

if TYPE_CHECKING:  # the registry brings numpy
    from rich.console import Console

    from napari_fewshot.models.registry import MethodCard


def methods(
    name: Annotated[str, typer.Argument(help="A method: shows all that is known of it.", show_default=False)] = "",
    as_json: options.Json = False,
) -> None:
    """List the methods and backbones that can be chosen, or show the card of one method.

    [b]Example[/b]: napari-fewshot methods panet

    A card tells what a method is for, its paper, which kinds of shot it
    learns from, on which features it works, what was trained for it, and what
    a frame costs. docs/methods.md compares all of them.
    """
    from rich.console import Console

    with in_one_sentence():
        from napari_fewshot.models.registry import list_backbones, list_segmenters

        console = Console(highlight=False, markup=False)
        if name:
            options.check_names(name, "auto")
            card = next(each for each in list_segmenters() if each.name == name)
            _print(_facts(card), as_json, lambda: _show_card(console, card))
        else:
            told = {
                "methods": [_facts(card) for card in list_segmenters()],
                "backbones": [
                    {"name": each.name, "summary": each.summary, "needs_weights": each.needs_weights}
                    for each in list_backbones()
                ],
            }
            _print(told, as_json, lambda: _show_lists(console))


def _print(told: dict[str, Any], as_json: bool, show: Callable[[], None]) -> None:
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False, indent=1))
    else:
        show()


def _facts(card: "MethodCard") -> dict[str, Any]:
    return {
        "name": card.name,
        "title": card.title,
        "summary": card.summary,
        "paper": card.paper,
        "accepts": list(card.accepts),
        "features": card.levels,
        "trained": card.trained,
        "needs_trained_head": card.needs_head,
        "cost": card.cost,
        "seconds_per_megapixel": card.seconds,
    }


def _show_card(console: "Console", card: "MethodCard") -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for heading, value in (
        ("method", f"{card.name}: {card.title}"),
        ("what it is for", card.summary),
        ("paper", card.paper or "-"),
        ("learns from", ", ".join(card.accepts)),
        ("works on", card.levels),
        ("trained", card.trained),
        ("cost", card.cost),
    ):
        table.add_row(heading, value)
    console.print(table)


def _show_lists(console: "Console") -> None:
    from rich.table import Table

    from napari_fewshot.models.registry import list_backbones, list_segmenters

    table = Table(title="Methods (--method)", title_justify="left")
    for heading in ("name", "what it does", "paper", "cost"):
        table.add_column(heading, no_wrap=heading == "name")
    for card in list_segmenters():
        table.add_row(card.name, f"{card.title}. {card.summary} {card.inside}", card.paper or "-", card.cost)
    console.print(table)
    table = Table(title="Backbones (--backbone)", title_justify="left")
    for heading in ("name", "what it is", "weights"):
        table.add_column(heading, no_wrap=heading == "name")
    for backbone in list_backbones():
        table.add_row(backbone.name, backbone.summary, "needs a download" if backbone.needs_weights else "none")
    console.print(table)
