"""What the shell sees when something goes wrong: one sentence, and an exit code that says of which kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from napari_fewshot.errors import FewShotError

FAILED: Final = 2
SOME_FAILED: Final = 3  # the rest is done
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells expect


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Turn an error that a person can mend, and Ctrl+C, into a line on stderr and an exit code.

    Raises
    ------
    typer.Exit
        2 after a `FewShotError`, 130 after Ctrl+C.
    """
    try:
        yield
    except FewShotError as error:
        typer.echo(f"napari-fewshot: {error}", err=True)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as interrupt:
        typer.echo("napari-fewshot: stopped; files that were written before are complete", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt
