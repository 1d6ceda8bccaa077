"""Where real data lies, and which tests may be skipped."""

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# The tensors of tests are small: a second thread of torch brings nothing, and costs a lot on a machine that is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).parents[1]
DATA = Path(os.environ.get("NAPARI_FEWSHOT_TEST_DATA") or REPOSITORY.parent / "shared")

NO_DATA = "no real data"
EXCUSES = ("no GPU", "no display server", *([] if DATA.is_dir() else [NO_DATA]))
"""Beginnings of the reasons for which a test may be skipped where all tests are required."""


def pytest_configure() -> None:
    """Load what must not come after a window (`napari_fewshot.models.beside_opengl` says why); let Ctrl+C be Ctrl+C.

    Tests import torchvision in whatever order they are shared out.
    """
    import torchvision  # noqa: F401

    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background; processes that tests start inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with ``data/`` (real images with masks) and ``weights/`` (real pretrained backbones)."""
    if not DATA.is_dir():
        pytest.skip(f"{NO_DATA}: '{DATA}' is not a folder; name it with NAPARI_FEWSHOT_TEST_DATA")
    return DATA


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the features and the preferences of whoever runs the tests out of them, and those of the tests out of there.

    By environment variables, which programs that tests start inherit.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_FEWSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NAPARI_FEWSHOT_CONFIG", str(tmp_path_factory.mktemp("config")))
        patch.setenv("NAPARI_FEWSHOT_DATA", str(tmp_path_factory.mktemp("data")))
        yield


def _require(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip without a good excuse, so that CI cannot pass on tests that it did not run."""
    if not os.environ.get("NAPARI_FEWSHOT_REQUIRE_ALL") or not report.skipped or hasattr(report, "wasxfail"):
        return
    _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(EXCUSES):
        report.outcome = "failed"
        report.longrepr = f"skipped ({reason}), but NAPARI_FEWSHOT_REQUIRE_ALL asks for every test"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _require(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _require(report)
    return report
