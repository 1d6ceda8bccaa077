"""The run of a session on a cluster: a process of its own does it, and tells how far it is. No Qt in here."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Final

from napari_fewshot.batch.cluster import check_place
from napari_fewshot.batch.recipe import write_recipe
from napari_fewshot.batch.session_recipe import recipe_of
from napari_fewshot.errors import FewShotError, SettingsError
from napari_fewshot.frames import frame_name
from napari_fewshot.io.atomic import make_folder
from napari_fewshot.session import Session
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.ui.jobs import Failed, Finished, Stage, Written
from napari_fewshot.ui.line_job import LineJob
from napari_fewshot.ui.ports import Asker, Runner
from napari_fewshot.ui.recipes import FILE_NAME, Told
from napari_fewshot.ui.reporting import Reporter

_PROGRAM: Final = (sys.executable, "-c", "from napari_fewshot.cli import main; main()")
_POLL: Final = 0.2  # seconds, after which somebody who wants it to stop is heard
_SOME_FAILED: Final = 3  # see docs/cli.md
_FORMAT: Final = "tiff"


class ClusterRun(LineJob):
    """Propagates what was taught onto all images of the session, by workers elsewhere or beside the dock.

    The dock stays free meanwhile, and what is taught after the start changes nothing in the run. What is done when it
    is cancelled stays, and a start into the same folder goes on from there.

    Parameters
    ----------
    session
        What was taught.
    runner
        A thread that listens to the run.
    reporter
        Told what came of it.
    """

    def __init__(self, session: Session, runner: Runner, reporter: Reporter) -> None:
        super().__init__(runner, reporter)
        self._session = session

    def start(self, place: str, folder: Path) -> None:
        """Begin, or go on with what a run of the same session left in that folder.

        Parameters
        ----------
        place
            ``local:2``, ``tcp://HOST:8786`` or ``slurm:workers=4,cores=8,memory=16GB``.
        folder
            For labels, recipe and shots.
        """
        try:
            check_place(place)
            if not self._session.support.shots:
                raise SettingsError("nothing is taught yet; paint and teach at least one slice first")
        except FewShotError as error:
            self._reporter.fail(error)
            self.changed.emit()
            return
        self._begin("Starting ...", partial(cluster_job, self._session.snapshot(), place, folder), 1)

    def _take(self, item: object) -> None:
        match item:
            case Told():
                self._reporter.say(item.text)
            case Written():
                self._reporter.say(f"Labels of all images are in {item.path}")


def cluster_job(contents: SessionContents, place: str, folder: Path, asker: Asker) -> Iterator[object]:
    """Write the recipe of a session, carry it out in another process, and yield how far that is."""
    try:
        yield Stage("Writing what was taught ...")
        recipe, left_out = recipe_of(contents, folder, (_FORMAT,))
        write_recipe(make_folder(folder) / FILE_NAME, recipe)
        yield from map(Told, left_out)
        yield Stage("Starting workers ...")
        arguments = ["run", str(folder / FILE_NAME), "--out", str(folder), "--cluster", place, "--resume", "--json"]
        yield from _told([*_PROGRAM, *arguments], folder, asker)
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)


def _told(command: list[str], folder: Path, asker: Asker) -> Iterator[object]:
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8") as child,
    ):
        Thread(target=_end_when_asked, args=(child, asker), daemon=True).start()
        assert child.stdout is not None
        try:
            for line in child.stdout:
                stage = _stage(line)
                if stage:
                    yield Stage(stage)
        finally:  # also where the generator is closed
            if asker.gave_up():
                _interrupt(child)
        code = child.wait()
        errors.seek(0)
        said = [line.removeprefix("napari-fewshot: ") for line in errors.read().strip().splitlines()]
    if asker.gave_up():
        return
    if code not in (0, _SOME_FAILED):
        raise FewShotError(said[-1] if said else f"the run ended with {code}")
    yield from map(Told, said if code else ())
    yield Written(folder)
    yield Finished()


def _stage(line: str) -> str:
    told = json.loads(line)
    match told["event"]:
        case "frame":
            return f"{told['done']} of {told['total']} images"
        case "part":
            return f"{frame_name((told['image'], *told['position']))}, part {told['done']} of {told['total']}"
        case "begin":
            return "Learning ..."
    return ""


def _end_when_asked(child: "subprocess.Popen[str]", asker: Asker) -> None:
    while child.poll() is None:
        if asker.gave_up():
            _interrupt(child)
            return
        time.sleep(_POLL)


def _interrupt(child: "subprocess.Popen[str]") -> None:
    """End it as Ctrl+C does, so that workers end with it; files are complete in any case."""
    if child.poll() is None:
        child.terminate() if sys.platform == "win32" else child.send_signal(signal.SIGINT)
