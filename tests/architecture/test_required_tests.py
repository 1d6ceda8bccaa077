"""CI must not pass on tests that it did not run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

SKIPPING = """
import pytest

def test_runs():
    pass

def test_that_needs_a_gpu():
    pytest.skip("no GPU: torch sees none")

@pytest.mark.skip(reason="too slow today")
def test_that_somebody_switched_off():
    pass

def test_that_needs_data(shared_data):
    pass
"""


def run_pytest(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NAPARI_FEWSHOT_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
    )


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "tests"
    folder.mkdir(parents=True)
    shutil.copy(CONFTEST, folder)
    return folder


def test_skips_are_fine_for_a_person(suite: Path) -> None:
    (suite / "test_some.py").write_text(SKIPPING)
    run = run_pytest(suite)
    assert run.returncode == 0
    assert "1 passed, 3 skipped" in run.stdout


def test_only_a_missing_machine_excuses_where_all_tests_are_required(suite: Path) -> None:
    (suite / "test_some.py").write_text(SKIPPING)
    run = run_pytest(suite, NAPARI_FEWSHOT_REQUIRE_ALL="1")
    assert run.returncode == 1
    assert "1 passed, 2 skipped, 1 error" in run.stdout
    assert "skipped (too slow today), but NAPARI_FEWSHOT_REQUIRE_ALL asks for every test" in run.stdout


def test_a_test_that_leaves_out_data_that_are_there_fails_where_all_tests_are_required(suite: Path) -> None:
    (suite / "test_some.py").write_text("import pytest\n\ndef test_data():\n    pytest.skip('no real data')\n")
    elsewhere = suite / "data"
    elsewhere.mkdir()
    run = run_pytest(suite, NAPARI_FEWSHOT_REQUIRE_ALL="1", NAPARI_FEWSHOT_TEST_DATA=str(elsewhere))
    assert run.returncode == 1


def test_a_module_that_skips_itself_fails_where_all_tests_are_required(suite: Path) -> None:
    (suite / "test_some.py").write_text("import pytest\n\npytest.importorskip('no_such_package')\n")
    run = run_pytest(suite, NAPARI_FEWSHOT_REQUIRE_ALL="1")
    assert run.returncode != 0
    assert "1 error" in run.stdout


def test_a_run_without_any_test_fails(suite: Path) -> None:
    assert run_pytest(suite).returncode != 0
