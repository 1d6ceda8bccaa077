"""``napari-fewshot methods``: what ``--method`` and ``--backbone`` may be."""

from napari_fewshot.cli.failures import in_one_sentence


def methods() -> None:
    """List the methods and backbones that can be chosen."""
    from rich.console import Console
    from rich.table import Table

    from napari_fewshot.models import list_backbones, list_segmenters

    with in_one_sentence():
        console = Console()
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
