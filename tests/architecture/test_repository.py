"""What is in the repository makes sense on any machine."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".sh", ".cfg", ".txt", ""}
MACHINE_PATH = re.compile(r"(?<![\w.~$}/])/(?:home|Users|root|tmp|work|farm|mnt|data)/[\w.]+|\b[A-Z]:\\\\?Users\b")


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        return [p for p in REPOSITORY.rglob("*") if ".venv" not in p.parts]
    return [REPOSITORY / name for name in listed.stdout.split("\0") if name]


def test_no_file_names_a_path_of_somebody_s_machine() -> None:
    named = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in tracked_files()
        if path.is_file() and path.suffix in TEXT and path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert named == []


@pytest.mark.parametrize("text", ["see /home/ann/data", "'/tmp/out.tif'", "C:\\Users\\ann", "(/work/main)"])
def test_paths_of_machines_are_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["~/data/x", "../data/dev", "https://a.org/data/x", "$HOME/tmp/x", "tests/data/x"])
def test_other_paths_are_left_alone(text: str) -> None:
    assert not MACHINE_PATH.search(text)
