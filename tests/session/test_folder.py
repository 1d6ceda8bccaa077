import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile

from napari_fewshot import Box, Frame, LabelClass, PropagationSettings, Session, Shot, Tag, open_session
from napari_fewshot.autosave import Autosaver
from napari_fewshot.errors import ExportError, ImageError, ReadError
from napari_fewshot.frames import FrameKey
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session import FrameState
from napari_fewshot.session.folder import PREVIOUS, SessionFolder
from napari_fewshot.session.head import HEAD, sealed
from napari_fewshot.support import UNLABELLED
from tests.fakes import BrightnessSegmenter, proposal

SIZE = (20, 24)


def bright(_: SegmenterSettings) -> BrightnessSegmenter:
    return BrightnessSegmenter()


def images(folder: Path, count: int = 2, seed: int = 0) -> list[Path]:
    """Stacks of four slices in TIFF files that differ from each other."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"cells {i}.tif" for i in range(count)]
    for i, path in enumerate(paths):
        pixels = np.random.default_rng(seed + i).integers(0, 256, (4, *SIZE)).astype(np.uint8)
        tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0})
    return paths


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Of everything something, on images in files."""
    session = Session(load=bright, classes=[LabelClass(1, "Zelle"), LabelClass(4, "夢", "#123456")])
    keys = session.add_images(images(tmp_path / "images"))
    assert keys[0] == ("cells 0", 0) and len(keys) == 8
    partial = np.full(SIZE, UNLABELLED)
    partial[:5], partial[5:7] = 1, 0
    session.teach(Shot(session.frame(keys[0]), partial))
    session.teach(Shot.boxed(session.frame(keys[1]), [Box(4, 4, 12, 12, class_id=2)]))
    session.tag(Tag(session.frame(keys[2]), (1, 4)))
    run = session.start_run()
    for key in keys[:1] + keys[3:]:
        assert session.record(run, proposal(key, np.full(SIZE, 3), score=0.25))
    paint(session, keys[3], 2, slice(3, 4))
    paint(session, keys[4], 1, slice(0, 2))
    session.accept(keys[4])
    session.reject(keys[5])
    session.use(SegmenterSettings("ridge"))
    session.propagation = PropagationSettings(min_area=7, smooth=1.5, thresholds={2: 0.4, 10: 0.7})
    return session


def paint(session: Session, key: FrameKey, value: int, rows: slice) -> None:
    labels = session.labels(key, with_proposals=True)
    assert labels is not None
    labels[rows] = value
    session.correct(key, labels)


def picture(session: Session) -> dict[object, object]:
    """All that is to be seen of a session."""
    frames = {}
    for key in session.frames:
        labels, origins, waiting = session.labels(key), session.origins(key), session.proposal(key)
        shown = session.labels(key, with_proposals=True)
        tag = session.support.tag(key)
        frames[key] = (
            session.state(key),
            None if labels is None else labels.tolist(),
            None if shown is None else shown.tolist(),
            None if origins is None else origins.tolist(),
            None if waiting is None else (waiting.score, waiting.note),
            None if tag is None else tag.class_ids,
            session.frame(key).spacing,
        )
    shots = [
        (shot.key, shot.labels.tolist(), None if shot.guessed is None else shot.guessed.tolist(), shot.digest)
        for shot in session.support
    ]
    return {
        "frames": frames,
        "order": list(session.frames),
        "shots": shots,
        "classes": session.classes,
        "settings": (session.settings, session.propagation),
    }


def files(folder: Path) -> dict[str, int]:
    """Every file with the time of its last change."""
    return {str(f.relative_to(folder)): f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}


# ---------------------------------------------------------------- there and back
def test_a_session_comes_back_as_it_was(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "saved")
    again = open_session(tmp_path / "saved", load=bright)
    assert picture(again) == picture(session)
    assert not again.missing
    assert not again.can_undo
    for key in session.frames:
        np.testing.assert_array_equal(again.frame(key).read(), session.frame(key).read())


def test_labelling_goes_on_where_it_stopped(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "saved")
    again = open_session(tmp_path / "saved", load=bright)
    for one in (session, again):
        one.accept(("cells 0", 3))
        list(one.propose())
    assert picture(again) == picture(session)


def test_images_that_lie_in_no_file_are_kept_in_the_session(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 60000, (5, *SIZE, 3)).astype(np.uint16)
    session = Session(BrightnessSegmenter())
    session.add_frames(Frame.of_stack("made", pixels, (0.5, 0.25)))
    session.add_frames([Frame("alone", pixels[0, ..., 0] / 7)])
    session.teach(Shot(session.frame("alone"), np.ones(SIZE, int)))
    session.save(tmp_path / "saved")
    again = open_session(tmp_path / "saved")
    assert picture(again) == picture(session)
    np.testing.assert_array_equal(again.frame(("made", 3)).read(), pixels[3])
    stack = again.frame(("made", 3)).stack
    assert stack is not None and len(list(stack.samples())) == 5
    assert again.frame("alone").stack is None


def test_a_shot_whose_image_is_labelled_no_more_is_still_learnt_from(tmp_path: Path) -> None:
    session = Session(BrightnessSegmenter())
    session.add_frames(Frame.of_stack("made", np.full((2, *SIZE), 9, np.uint8)))
    session.teach(Shot(session.frame(("made", 0)), np.ones(SIZE, int)))
    session.remove_frames([("made", 0)])
    session.save(tmp_path / "saved")
    again = open_session(tmp_path / "saved")
    assert list(again.frames) == [("made", 1)]
    assert again.support.shots[0].digest == session.support.shots[0].digest


def test_an_empty_session_can_be_saved(tmp_path: Path) -> None:
    Session().save(tmp_path / "saved")
    assert picture(open_session(tmp_path / "saved")) == picture(Session())


def test_the_weights_that_were_used_are_named(tmp_path: Path) -> None:
    segmenter = BrightnessSegmenter()
    segmenter.weights = {"backbone": "bright-1"}  # type: ignore[attr-defined]
    session = Session(load=lambda settings: segmenter)
    session.segmenter()
    session.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / HEAD).read_text("utf-8"))["weights"] == {"backbone": "bright-1"}
    again = open_session(tmp_path / "saved")
    assert again.snapshot().weights == {"backbone": "bright-1"}
    again.use(SegmenterSettings("other"))
    assert again.snapshot().weights == {}


def test_what_is_painted_but_not_taught_yet_is_kept(session: Session, tmp_path: Path) -> None:
    session.keep_painted(("cells 1", 0), np.zeros(SIZE, int))
    assert not session.painted
    session.keep_painted(("cells 1", 0), np.full(SIZE, 254))
    session.save(tmp_path / "saved")
    assert open_session(tmp_path / "saved").painted[("cells 1", 0)].tolist() == np.full(SIZE, 254).tolist()


def test_images_can_get_other_names(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "saved")
    contents = session.snapshot().renamed({"cells 0": "new"})
    again = Session(load=bright)
    again.restore(contents)
    assert again.state(("new", 3)) is session.state(("cells 0", 3))
    assert again.support.keys == tuple(
        ("new", *key[1:]) if key[0] == "cells 0" else key for key in session.support.keys
    )
    again.restore(contents.renamed({"new": "cells 0"}))
    assert picture(again) == picture(session)


# ---------------------------------------------------------------- only what changed
def test_saving_again_writes_only_what_changed_and_nothing_where_nothing_did(session: Session, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    session.save(saved)
    before = files(saved)
    session.save(saved)
    assert files(saved) == before
    paint(session, ("cells 1", 2), 1, slice(2, 3))
    session.save(saved)
    after = files(saved)
    written = {name for name in after if after[name] != before.get(name)}
    assert {HEAD, PREVIOUS} < written
    assert len(written) == 4  # labels and corrections of that frame
    reopened = open_session(saved)
    reopened.reject(("cells 1", 2))
    reopened.save(saved)
    assert {name for name in files(saved) if files(saved)[name] != after.get(name)} == {HEAD, PREVIOUS}


def test_what_no_head_names_any_more_is_cleaned_up(session: Session, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    session.save(saved)
    count = len(files(saved))
    for row in range(10):
        paint(session, ("cells 1", 2), 1, slice(row, row + 1))
        session.save(saved)
    assert len(files(saved)) <= count + 1 + 4  # the head before, and its labels and corrections


# ---------------------------------------------------------------- images that were moved
def test_images_that_moved_together_with_the_session_are_found(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "images" / "saved")
    expected = picture(session)
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    again = open_session(tmp_path / "elsewhere" / "saved")
    assert not again.missing
    assert picture(again) == expected


def test_renamed_images_are_known_by_their_content(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "saved")
    expected = picture(session)
    images(tmp_path / "far" / "away", seed=7)  # of the same names and sizes, but others
    for number in range(2):
        (tmp_path / "images" / f"cells {number}.tif").rename(tmp_path / "far" / "away" / f"renamed {number}.tif")
    hidden = tmp_path / "saved"
    apart = tmp_path / "a" / "b" / "saved"
    apart.parent.mkdir(parents=True)
    hidden.rename(apart)
    lost = open_session(apart)
    assert set(lost.missing) == {"cells 0", "cells 1"}
    again = open_session(apart, search=[tmp_path / "far"])
    assert picture(again) == expected
    again.save(apart)
    assert picture(open_session(apart)) == expected


def test_missing_images_are_asked_for(session: Session, tmp_path: Path) -> None:
    apart = tmp_path / "a" / "b" / "saved"
    session.save(apart)
    expected = picture(session)
    shutil.move(tmp_path / "images", tmp_path / "away")
    asked = []

    def find(name: str, known: object) -> Path:
        asked.append(name)
        return tmp_path / "away" / "cells 0.tif"

    assert picture(open_session(apart, find=find)) == expected
    assert asked == ["cells 0"]  # the other one lies beside it


def test_without_its_image_a_frame_keeps_everything_but_its_pixels_until_it_is_located(
    session: Session, tmp_path: Path
) -> None:
    apart = tmp_path / "a" / "b" / "saved"
    session.save(apart)
    expected = picture(session)
    shutil.move(tmp_path / "images", tmp_path / "away")
    again = open_session(apart, load=bright)
    assert again.state(("cells 1", 0)) is FrameState.ACCEPTED
    with pytest.raises(ImageError, match=r"'cells 0 .0.' was not found; it was at .*cells 0.tif: open it again"):
        again.frame(("cells 0", 0)).read()
    again.save(apart)  # loses nothing
    again = open_session(apart, load=bright)
    other = images(tmp_path / "other", 1)[0]
    tifffile.imwrite(other, np.zeros((9, 9), np.uint8))
    with pytest.raises(ReadError, match="is not the image 'cells 0'"):
        again.locate("cells 0", other)
    for name in ("cells 0", "cells 1"):
        again.locate(name, tmp_path / "away" / f"{name}.tif")
    assert not again.missing
    assert picture(again) == expected
    assert len(list(again.propose())) > 0


# ---------------------------------------------------------------- what is refused
def test_a_newer_session_is_refused_and_backed_up(session: Session, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    session.save(saved)
    head = json.loads((saved / HEAD).read_text("utf-8"))
    (saved / HEAD).write_text(json.dumps({**head, "version": 3, "frames": "of the future"}), "utf-8")
    content = (saved / HEAD).read_bytes()
    with pytest.raises(ReadError, match=r"newer napari-fewshot \(format 3, this one reads 2\); update"):
        open_session(saved)
    assert (saved / HEAD).read_bytes() == content
    assert [file.read_bytes() for file in saved.glob("session.refused-*.json")] == [content]


def damages(folder: Path) -> list[tuple[str, bytes | None]]:
    """Ways in which any file can be broken: cut off, a bit turned, emptied, gone."""
    found: list[tuple[str, bytes | None]] = []
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and f.name != PREVIOUS):
        name, content = str(file.relative_to(folder)), file.read_bytes()
        middle = len(content) // 2
        turned = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        found += [(name, content[:middle]), (name, turned), (name, b"")]
        if name != HEAD:
            found.append((name, None))
    return found


def test_whatever_is_damaged_nothing_is_half_loaded(session: Session, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    session.save(saved)
    broken = damages(saved)
    assert len(broken) > 20
    for name, content in broken:
        good = (saved / name).read_bytes()
        if content is None:
            (saved / name).unlink()
        else:
            (saved / name).write_bytes(content)
        with pytest.raises(ReadError, match=r"is damaged .* and was not opened"):
            open_session(saved)
        (saved / name).write_bytes(good)
    assert picture(open_session(saved)) == picture(session)


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head["frames"].append(head["frames"][0]),
        lambda head: head["frames"][0].pop("shot"),
        lambda head: head["frames"][0].update(shape=[3, 3]),
        lambda head: head["frames"][0].update(key=[1.5]),
        lambda head: head["frames"][0].update(shot="../../etc/passwd"),
        lambda head: head["classes"][0].update(id=300),
        lambda head: head["settings"].update(unknown=1),
        lambda head: head["propagation"].update(min_area=-1),
        lambda head: head["propagation"].update(thresholds={"nucleus": 0.5}),
        lambda head: head["images"][0].update(path=5),
        lambda head: head.pop("taught"),
        lambda head: next(f for f in head["frames"] if "proposal" in f)["proposal"].update(score=7),
        lambda head: next(f for f in head["frames"] if "accepted" in f).pop("origins"),
    ],
)
def test_a_head_that_contradicts_itself_is_refused_even_if_its_checksum_is_right(
    session: Session, tmp_path: Path, change: object
) -> None:
    saved = tmp_path / "saved"
    session.save(saved)
    head = json.loads((saved / HEAD).read_text("utf-8"))
    head.pop("digest")
    change(head)  # type: ignore[operator]
    (saved / HEAD).write_bytes(sealed(head))
    with pytest.raises(ReadError, match="is damaged"):
        open_session(saved)


def test_the_state_before_the_last_change_can_be_gone_back_to(session: Session, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    session.save(saved)
    before = picture(session)
    session.accept(("cells 1", 3))
    session.save(saved)
    (saved / HEAD).write_bytes(b"{")
    with pytest.raises(ReadError, match=r"'session.previous.json' beside it is the state one change before"):
        open_session(saved)
    (saved / PREVIOUS).replace(saved / HEAD)
    assert picture(open_session(saved)) == before


def test_the_session_of_somebody_else_is_not_overwritten_unless_asked_for(session: Session, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    session.save(saved)
    other = Session()
    with pytest.raises(ExportError, match="holds another session, or another window has changed it"):
        other.save(saved)
    assert picture(open_session(saved)) == picture(session)
    other.save(saved, overwrite=True)
    with pytest.raises(ExportError, match="another window has changed it"):
        session.save(saved)
    assert len(open_session(saved).frames) == 0


def test_a_folder_without_a_session_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="holds no session"):
        open_session(tmp_path)


# ---------------------------------------------------------------- in the background
def test_every_change_is_on_the_disk_soon_after(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "saved")
    saver = Autosaver(session, SessionFolder(tmp_path / "auto"), delay=0.05)
    changes = [
        lambda: session.accept(("cells 1", 2)),
        lambda: paint(session, ("cells 1", 3), 1, slice(0, 1)),
        session.undo,
        lambda: session.set_classes([*session.classes, LabelClass(9, "neu")]),
        lambda: session.use(SegmenterSettings("panet")),
        lambda: setattr(session, "propagation", PropagationSettings(min_area=3)),
        lambda: session.untag(("cells 0", 2)),
    ]
    for change in changes:
        change()
        assert not saver.is_saved
        assert saver.wait(5)
        assert picture(open_session(tmp_path / "auto")) == picture(session)
    before = picture(session)
    session.remove_frames([("cells 1", 1)])
    assert not saver.is_saved
    assert saver.wait(5)
    assert picture(open_session(tmp_path / "auto"))["frames"] == before["frames"], "it comes back with its image"
    assert saver.close()


def test_what_is_being_written_does_not_count_as_saved(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, may_go_on, write = SessionFolder(tmp_path / "auto"), Event(), SessionFolder.write

    def slow(*args: object) -> bool:
        may_go_on.wait(10)
        return write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(SessionFolder, "write", slow)
    saver = Autosaver(session, folder, delay=0.0)
    session.accept(("cells 1", 2))
    assert not saver.wait(0.3)
    may_go_on.set()
    assert saver.wait(10)
    assert picture(open_session(tmp_path / "auto")) == picture(session)
    assert saver.close()


def test_what_was_not_saved_yet_is_saved_on_closing(session: Session, tmp_path: Path) -> None:
    saver = Autosaver(session, SessionFolder(tmp_path / "auto"), delay=1000)
    session.accept(("cells 1", 2))
    assert saver.close()
    assert picture(open_session(tmp_path / "auto")) == picture(session)


def test_what_cannot_be_saved_is_told_and_tried_again(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_fewshot.autosave._RETRY_SECONDS", 0.05)
    (tmp_path / "auto").write_text("in the way")
    saver = Autosaver(session, SessionFolder(tmp_path / "auto"), delay=0.01)
    told: list[str] = []
    saver.failed.connect(told.append)
    session.accept(("cells 1", 2))
    deadline = time.monotonic() + 5
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(told) == 1 and "auto" in told[0]
    (tmp_path / "auto").unlink()
    assert saver.wait(5)
    assert saver.trouble == ""
    assert saver.close()
    assert picture(open_session(tmp_path / "auto")) == picture(session)


WORKER = """
import sys
from pathlib import Path
import numpy as np
from napari_fewshot import Frame, Session, Shot
from napari_fewshot.autosave import Autosaver
from napari_fewshot.session.folder import SessionFolder

session = Session()
session.add_frames(Frame.of_stack("stack", np.zeros((3, 64, 64), np.uint8)))
folder, background = Path(sys.argv[1]), sys.argv[2] == "background"
saver = Autosaver(session, SessionFolder(folder), delay=0.0) if background else None
print("ready", flush=True)
for number in range(1, 100000):
    labels = np.random.default_rng(number).integers(0, 2, (64, 64))
    labels.flat[:20] = [int(bit) for bit in f"{number:020b}"]
    session.teach(Shot(session.frame(("stack", number % 3)), labels))
    saver.wait(60) if background else session.save(folder)
    print(number, flush=True)
"""


@pytest.mark.parametrize("how", ["at once", "background"])
def test_killed_at_any_moment_a_session_loses_at_most_the_last_change(tmp_path: Path, how: str) -> None:
    rng = random.Random(0)
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), how], stdout=subprocess.PIPE, text=True
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.05, 0.6))
            worker.kill()
            said = [int(line) for line in worker.stdout.read().splitlines() if line]
        if not said:
            continue
        again = open_session(folder)
        numbers = [int("".join(map(str, shot.labels.flat[:20])), 2) for shot in again.support]
        assert max(numbers) >= said[-1]
        for number, shot in zip(numbers, again.support, strict=True):
            expected = np.random.default_rng(number).integers(0, 2, (64, 64))
            np.testing.assert_array_equal(shot.labels.flat[20:], expected.flat[20:])
        again.teach(Shot(again.frame(("stack", 0)), np.ones((64, 64), int)))
        again.save(folder)  # goes on, and cleans up
        assert not [name for name in files(folder) if name.endswith(".partial") and "data" in name]
