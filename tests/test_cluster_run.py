"""Run on cluster, of the dock: another process does it; how far it is, what goes wrong, and Cancel."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_fewshot import LabelClass, Session, Shot
from napari_fewshot.batch.recipe import read_recipe
from napari_fewshot.errors import FewShotError
from napari_fewshot.ui import cluster_run
from napari_fewshot.ui.cluster_run import ClusterRun, cluster_job
from napari_fewshot.ui.jobs import Failed, Finished, Stage, Written
from napari_fewshot.ui.recipes import FILE_NAME, Told
from tests.fakes import BrightnessSegmenter

PROGRAM = """
import json, sys, time
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
(out / "asked").write_text(json.dumps(sys.argv[1:]))
for fact in {facts!r}:
    print(json.dumps(fact), flush=True)
try:
    time.sleep({rest})
except KeyboardInterrupt:
    (out / "stopped").touch()
    sys.exit(130)
print({error!r}, file=sys.stderr)
sys.exit({code})
"""


class Asker:
    def __init__(self) -> None:
        self.gave_up: Callable[[], bool] = lambda: False
        self.tell: Callable[[object], None] = lambda item: None


class View:
    """What a reporter and a runner are told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.errors: list[str] = []
        self.job: object = None
        self.stopped = 0

    def say(self, message: str) -> None:
        self.said.append(message)

    def fail(self, error: Exception) -> None:
        self.errors.append(str(error))

    def start(self, job: object, receive: Callable[[object], None], total: int) -> None:
        self.job, self.receive = job, receive

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def session(tmp_path: Path) -> Session:
    image = np.full((24, 32), 20, np.uint8)
    image[4:12, 5:20] = 200
    tifffile.imwrite(tmp_path / "a.tif", image)
    made = Session(classes=[LabelClass(1, "square")], load=lambda _: BrightnessSegmenter())
    made.add_images([tmp_path / "a.tif"])
    made.teach(Shot(made.frame("a"), (image > 100).astype(np.int32)))
    return made


def program(monkeypatch: pytest.MonkeyPatch, *facts: object, rest: float = 0, error: str = "", code: int = 0) -> None:
    text = PROGRAM.format(facts=facts, rest=rest, error=error, code=code)
    monkeypatch.setattr(cluster_run, "_PROGRAM", (sys.executable, "-c", text))


BEGIN = {"event": "begin"}
FRAME = {"event": "frame", "done": 3, "total": 9}
PART = {"event": "part", "image": "a", "position": [2], "done": 1, "total": 4}


def test_a_run_is_started_with_the_recipe_and_tells_how_far_it_is(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, BEGIN, FRAME, PART, {"event": "end"})
    out = tmp_path / "labels"
    items = list(cluster_job(session.snapshot(), "local:2", out, Asker()))
    told = [item.text for item in items if isinstance(item, Stage)]
    assert told[-3:] == ["Learning ...", "3 of 9 images", "a [2], part 1 of 4"]
    assert items[-2:] == [Written(out), Finished()]
    asked = json.loads((out / "asked").read_text())
    assert asked == ["run", str(out / FILE_NAME), "--out", str(out), "--cluster", "local:2", "--resume", "--json"]
    assert len(read_recipe(out / FILE_NAME).shots) == 1


@pytest.mark.parametrize(("code", "kind"), [(2, Failed), (3, Finished)])
def test_what_goes_wrong_is_told_in_the_sentence_of_the_run(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type
) -> None:
    program(monkeypatch, error="napari-fewshot: no scheduler answers", code=code)
    items = list(cluster_job(session.snapshot(), "local:2", tmp_path / "labels", Asker()))
    assert isinstance(items[-1], kind)
    if code == 2:
        assert isinstance(items[-1].error, FewShotError) and str(items[-1].error) == "no scheduler answers"
    else:
        assert Told("no scheduler answers") in items


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on Unix")
def test_cancel_stops_the_process_at_once(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, FRAME, rest=60)
    asker, begun = Asker(), time.monotonic()
    for item in cluster_job(session.snapshot(), "local:2", tmp_path / "labels", asker):
        assert not isinstance(item, Finished | Failed)
        if item == Stage("3 of 9 images"):
            asker.gave_up = lambda: True
    assert time.monotonic() - begun < 30
    assert (tmp_path / "labels/stopped").exists()


def test_the_dock_shows_how_far_it_is_and_what_came_of_it(session: Session, tmp_path: Path) -> None:
    view = View()
    run = ClusterRun(session, view, view)  # type: ignore[arg-type]
    changes: list[str] = []
    run.changed.connect(lambda: changes.append(run.line))
    run.start("local:2", tmp_path)
    assert run.runs and view.job is not None
    for item in (Stage("3 of 9 images"), Told("'b' lies in no file"), Written(tmp_path), Finished()):
        view.receive(item)
    assert changes == ["Starting ...", "3 of 9 images", "3 of 9 images", "3 of 9 images", ""]
    assert view.said == ["'b' lies in no file", f"Labels of all images are in {tmp_path}"]
    run.start("local:2", tmp_path)
    run.cancel()
    assert (run.runs, view.stopped) == (False, 1)


@pytest.mark.parametrize("place", ["here", "local:0", "slurm:workers=2"])
def test_a_place_that_is_none_is_refused_before_anything_starts(session: Session, tmp_path: Path, place: str) -> None:
    view = View()
    ClusterRun(session, view, view).start(place, tmp_path)  # type: ignore[arg-type]
    assert view.job is None and "say " in view.errors[0]


def test_nothing_taught_is_told_before_anything_starts(tmp_path: Path) -> None:
    view = View()
    ClusterRun(Session(), view, view).start("local:2", tmp_path)  # type: ignore[arg-type]
    assert view.job is None and "nothing is taught yet" in view.errors[0]
