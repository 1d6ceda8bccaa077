import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_fewshot import Frame, LabelClass, Session, Shot
from napari_fewshot.cli import app


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    session = Session(classes=[LabelClass(1, "nucleus")])
    session.add_frames(Frame.of_stack("cells", np.zeros((3, 16, 20), np.uint8)))
    session.teach(Shot(session.frame(("cells", 1)), np.ones((16, 20), int)))
    session.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_session_tells_what_is_in_it(saved: Path) -> None:
    told = CliRunner().invoke(app, ["session", "info", str(saved)])
    assert told.exit_code == 0
    assert "nucleus" in told.output
    assert "3 (2 untouched, 1 taught)" in told.output
    told = CliRunner().invoke(app, ["session", "info", "--json", str(saved)])
    assert json.loads(told.output)["states"] == {"untouched": 2, "taught": 1}


def test_a_damaged_session_ends_with_2_and_a_sentence(saved: Path) -> None:
    (saved / "session.json").write_text("{}")
    told = CliRunner().invoke(app, ["session", "info", str(saved)])
    assert told.exit_code == 2
    assert "is damaged ('session.json' is no session) and was not opened" in told.output


def test_who_labelled_what_is_written_as_a_table(saved: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["session", "provenance", str(saved), str(tmp_path / "who.json")])
    assert told.exit_code == 0
    rows = json.loads((tmp_path / "who.json").read_text("utf-8"))
    assert [(row["frame"], row["origin"], row["pixels human"]) for row in rows] == [
        ("cells [0]", "nobody", 0),
        ("cells [1]", "human", 320),
        ("cells [2]", "nobody", 0),
    ]
