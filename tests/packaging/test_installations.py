"""Every way to install brings the manifest and the weights along; each is tried in a virtual environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from sysconfig import get_path

import pytest

import hatch_build

REPOSITORY = Path(__file__).parents[2]
SOURCE_FOLDERS = ["napari_fewshot", "weights"]
SOURCE_FILES = ["napari.yaml", "hatch_build.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"]

REPORT = """
import json
import sys
from importlib.metadata import entry_points, version

import napari_fewshot
from napari_fewshot.models.weights import shipped_folder
from npe2 import PluginManifest

(script,) = entry_points(group="console_scripts", name="napari-fewshot")
manifest = PluginManifest.from_distribution("napari-fewshot")
print(json.dumps({
    "package": napari_fewshot.__file__,
    "versions": [napari_fewshot.__version__, version("napari-fewshot")],
    "manifest": manifest.name,
    "widgets": [w.display_name for w in manifest.contributions.widgets],
    "weights": str(shipped_folder()),
    "script": script.value,
}))
"""


def run(*command: object, cwd: Path) -> str:
    """Run a program away from the repository, whose folder would otherwise be importable."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository as a fresh clone would have it."""
    folder = tmp_path_factory.mktemp("source")
    git_ignored = shutil.ignore_patterns("__pycache__", "napari.yaml")
    for name in SOURCE_FOLDERS:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=git_ignored)
    for name in SOURCE_FILES:
        shutil.copy(REPOSITORY / name, folder)
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, a wheel built from it, and a wheel built from the folder."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check"]
    run(*build, "--outdir", folder, source, cwd=folder)
    run(*build, "--wheel", "--outdir", folder / "direct", source, cwd=folder)
    return {
        "sdist": next(folder.glob("*.tar.gz")),
        "wheel": next(folder.glob("*.whl")),
        "direct wheel": next((folder / "direct").glob("*.whl")),
    }


def environment(folder: Path) -> Path:
    """Make a virtual environment that sees the dependencies installed here, but not the package; return its python.

    A folder named in a .pth file is searched, but .pth files in it, such as the one of an editable install, are not.
    """
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "dependencies.pth").write_text("\n".join({get_path("purelib"), get_path("platlib")}))
    return python


@pytest.mark.parametrize("way", ["wheel from the sdist", "folder", "editable folder"])
def test_the_manifest_and_the_weights_are_found_after_installing(
    way: str, source: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    python = environment(tmp_path / "env")
    what = {"wheel from the sdist": [built["wheel"]], "folder": [source], "editable folder": ["--editable", source]}
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--no-index", "--quiet"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what[way], cwd=tmp_path)

    assert "valid" in run(python, "-m", "npe2", "validate", "napari-fewshot", cwd=tmp_path)
    assert "napari-fewshot" in run(python, "-m", "npe2", "list", cwd=tmp_path)
    report = json.loads(run(python, "-c", REPORT, cwd=tmp_path))
    home = source if way == "editable folder" else tmp_path / "env"
    assert Path(report["package"]).is_relative_to(home)
    assert Path(report["weights"]).is_relative_to(home)
    assert (Path(report["weights"]) / "index.json").read_text() == (REPOSITORY / "weights/index.json").read_text()
    assert report["manifest"] == "napari-fewshot"
    assert report["widgets"] == ["Few-shot propagation", "Two-minute tour"]
    assert len(set(report["versions"])) == 1
    assert report["script"] == "napari_fewshot.cli:main"


def test_a_wheel_from_the_sdist_holds_what_a_wheel_from_the_folder_holds(built: dict[str, Path]) -> None:
    direct, from_sdist = (zipfile.ZipFile(built[name]) for name in ("direct wheel", "wheel"))
    assert {i.filename: i.CRC for i in from_sdist.infolist()} == {i.filename: i.CRC for i in direct.infolist()}


def test_a_wheel_holds_every_weights_file_and_nothing_but_the_package(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"napari_fewshot"}
    shipped = {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "weights").rglob("*") if p.is_file()}
    assert {n.removeprefix("napari_fewshot/") for n in names if n.startswith("napari_fewshot/weights/")} == shipped
    assert "napari_fewshot/napari.yaml" in names
    assert "napari_fewshot/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_neither_tests_nor_the_link_to_the_manifest(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"napari.yaml", "weights/index.json", "hatch_build.py", "LICENSE"} <= names
    assert "napari_fewshot/napari.yaml" not in names
    assert not any(name.startswith("tests") for name in names)


def test_an_editable_install_follows_changes_of_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "napari_fewshot").mkdir()
    (tmp_path / "napari.yaml").write_text("name: before")
    for _ in range(2):  # installing again replaces the link
        hatch_build.link_manifest(tmp_path)
    (tmp_path / "napari.yaml").write_text("name: after")
    assert (tmp_path / "napari_fewshot/napari.yaml").read_text() == "name: after"


def test_an_editable_install_copies_the_manifest_where_links_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (tmp_path / "napari_fewshot").mkdir()
    (tmp_path / "napari.yaml").write_text("name: napari-fewshot")
    hatch_build.link_manifest(tmp_path)
    assert (tmp_path / "napari_fewshot/napari.yaml").read_text() == "name: napari-fewshot"
