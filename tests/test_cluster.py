"""Frames as tasks of Dask workers: the same labels as one process, whoever dies."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from napari_fewshot.batch.cluster import check_place, connected, slurm_options
from napari_fewshot.cli import app
from napari_fewshot.errors import SettingsError

PAGE = (Path(__file__).parents[1] / "docs/large-data.md").read_text("utf-8")
FORMATS = ("--format", "tiff", "--format", "ome-zarr")
PROPAGATE = ("propagate", "scans", "--shot", "scans/a.tif", "a_mask.tif", "--features-gib", "0", "--device", "cpu")


DIVIDING = """
from napari_fewshot.cli import main
from napari_fewshot.models import feature_segmenter
from napari_fewshot.segmenter import Region

def parts(extractor, pixels):  # as if the plane were large
    rows, columns = ((0, 110), (110, 240)), ((0, 128), (128, 200), (200, 320))
    return tuple(Region(y, x) for y in rows for x in columns) if pixels.size == (240, 320) else ()

feature_segmenter.plan_parts = parts
main()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image with its mask, a stack of twenty slices, and a plane of OME-Zarr."""
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((96, 96), np.uint8)
    mask[20:60, 24:80] = 1
    noise = np.random.default_rng(0)
    slices = [np.where(np.roll(mask, n, 0), 170, 40) + noise.integers(0, 30, mask.shape) for n in range(20)]
    (tmp_path / "scans").mkdir()
    tifffile.imwrite("scans/a.tif", slices[0].astype(np.uint8))
    tifffile.imwrite("scans/stack.tif", np.stack(slices).astype(np.uint8), metadata={"axes": "ZYX"})
    tifffile.imwrite("a_mask.tif", mask)
    plane = np.tile(slices[3].astype(np.uint8), (3, 4))[:240, :320]
    group = zarr.open_group("scans/plane.ome.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=plane, chunks=(64, 64))
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    return tmp_path


@contextmanager
def background(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            yield child
        finally:
            child.terminate()
            child.wait(30)


def test_two_workers_of_which_one_is_killed_give_the_files_of_one_process(folder: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    block = re.findall(r"```sh\n(dask.*?)```", PAGE, re.DOTALL)[0].replace("8786", port)
    scheduler, workers, propagate = ([*shlex.split(line)] for line in block.splitlines())
    scripts = Path(sys.executable).parent
    with ExitStack() as stack:
        for command in (scheduler, workers):
            stack.enter_context(background([str(scripts / command[0]), *command[1:]]))
        address = propagate[-1]
        client = stack.enter_context(distributed.Client(address, timeout=120, set_as_default=False))
        client.wait_for_workers(2, timeout=120)
        arguments = [*propagate[1:], "--features-gib", "0", "--device", "cpu", *FORMATS, "--json"]
        with subprocess.Popen([sys.executable, "-c", DIVIDING, *arguments], stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            assert any(json.loads(line)["event"] == "part" for line in run.stdout)  # in the middle of the plane
            victims = client.run(os.getpid)
            os.kill(next(iter(victims.values())), signal.SIGKILL)
            rest = run.stdout.read()
        assert run.returncode == 0
    assert json.loads(rest.splitlines()[-1])["failed"] == 0
    result = CliRunner().invoke(app, [*PROPAGATE, *FORMATS, "--out", "one", "--threads", "1"])
    assert result.exit_code == 0, result.output
    shared, alone = files("labels-2"), files("one")
    assert {"stack_labels.tif", "plane_labels.tif", "frames.csv", "recipe.json"} < shared.keys()
    assert any(name.startswith("plane_labels.ome.zarr") for name in shared)
    assert shared == alone


def files(folder: str) -> dict[str, bytes]:
    every = (path for path in Path(folder).rglob("*") if path.is_file() and ".napari-fewshot" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in every}


def test_the_first_command_of_the_page_runs(folder: Path) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    (command,) = re.findall(r"```sh\n(napari-fewshot .*?)\n```", PAGE, re.DOTALL)
    arguments = shlex.split(command)[1:]
    (folder / "scans/stack.tif").unlink()
    result = CliRunner().invoke(app, [*arguments, "--features-gib", "0", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert {"a_labels.tif", "plane_labels.tif", "frames.csv"} < files("labels").keys()


def test_the_benchmark_makes_a_sparse_volume_and_propagates_onto_it(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks/speed/cluster.py"

    def call(*arguments: str) -> dict[str, Any]:
        done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    made = call("make", str(tmp_path), "--gib", "0.0005", "--side", "128", "--shown", "2")
    assert made["shape"] == [8, 128, 128] and made["gib_on_disk"] < made["gib"]
    told = call("run", str(tmp_path), "--workers", "0")
    assert told["workers"] == 0 and told["most_gib"] > 0.1 and len(told["labels"]) == 16
    assert (tmp_path / "labels-0/volume_labels.ome.zarr").is_dir()


def test_a_cluster_of_this_machine_ends_with_the_run(folder: Path) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with connected("local:1") as client:
        (pid,) = client.run(os.getpid).values()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    else:
        pytest.fail("a worker is left")


@pytest.mark.parametrize(
    "place", ["", "local", "local:0", "here", "tcp://host", "slurm:", "slurm:workers=2", "file:///x:1"]
)
def test_what_is_no_cluster_is_refused(place: str) -> None:
    with pytest.raises(SettingsError, match="say "):
        check_place(place)


def test_what_slurm_is_asked_for() -> None:
    told = slurm_options("slurm:workers=4,cores=8,memory=16GB,queue=gpu,walltime=02:00:00")
    assert told == {"workers": "4", "cores": "8", "memory": "16GB", "queue": "gpu", "walltime": "02:00:00"}


def test_a_scheduler_that_does_not_answer_is_told_in_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr("napari_fewshot.batch.cluster._PATIENCE", 1)
    result = CliRunner().invoke(app, [*PROPAGATE, "--out", "out", "--cluster", "tcp://127.0.0.1:1"])
    assert (result.exit_code, "no scheduler answers" in result.stderr) == (2, True), result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("out").exists()


def test_slurm_is_asked_for_jobs_with_one_worker_each() -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra 'cluster' is not installed")
    from napari_fewshot.batch.cluster import slurm_cluster

    with slurm_cluster({"cores": "8", "memory": "16GB", "queue": "gpu", "walltime": "02:00:00"}) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=15G", "#SBATCH -t 02:00:00"):
        assert line in script
    assert "--nthreads 1 " in script
