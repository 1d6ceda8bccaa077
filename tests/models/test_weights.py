"""Where weights are found, how they are downloaded, and what is never done with them."""

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.models import fetch_weights, licence_notice, list_backbones
from napari_fewshot.models import weights as stock
from napari_fewshot.models.downloads import DamagedFileError, download, download_from_hub, hash_in_name, to_stderr
from napari_fewshot.models.loading import weights_source
from napari_fewshot.models.weights import WeightsSource, copy_into, fetch, locate, obtain, read_weights, verify
from tests.servers import Served, serving

CONTENT = save({"weight": torch.arange(300_000, dtype=torch.float32)})  # more than one block
HASH = hashlib.sha256(CONTENT).hexdigest()
NET = f"/net-{HASH[:8]}.safetensors"
HUB = "/timm/net.tag/resolve/main/model.safetensors"


@pytest.fixture
def server() -> Iterator[Served]:
    with serving({NET: CONTENT, HUB: CONTENT}) as served:
        yield served


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer without any weights."""
    monkeypatch.setattr(stock, "own_folder", lambda: tmp_path / "own")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.delenv(stock.FOLDER_VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def hub(server: Served, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The server in the place of the Hugging Face hub."""
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    yield server
    close_session()  # connections that its client keeps open


def source(url: str = "", repository: str = "") -> WeightsSource:
    return WeightsSource("net", (f"net-{HASH[:8]}", "net", "net-*"), "Read the licence.", "free", url, repository)


# ---------------------------------------------------------------------------- downloads
def test_a_download_tells_how_far_it_is_and_lands_in_torchvision_s_cache(server: Served, home: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch(source(server.address + NET), lambda done, total: told.append((done, total)))
    assert path == home / "torch" / "checkpoints" / NET[1:]
    assert path.read_bytes() == CONTENT
    assert len(told) > 1 and told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert verify(path) == "intact"


def test_what_is_here_is_not_downloaded_again(server: Served) -> None:
    first = fetch(source(server.address + NET))
    assert fetch(source(server.address + NET)) == first
    assert server.asked == [f"GET {NET}"]


@pytest.mark.parametrize("fault", ["another content", "cut off"])
def test_a_damaged_download_leaves_nothing_and_says_so(server: Served, home: Path, fault: str) -> None:
    if fault == "cut off":
        server.cut_off.add(NET)
    else:
        server.files[NET] = CONTENT[:-1] + b"x"
    with pytest.raises(WeightsError, match=r"net arrived damaged .* try again"):
        fetch(source(server.address + NET))
    assert [p for p in home.rglob("*") if p.is_file()] == []


def test_a_full_disk_leaves_no_partial_file(server: Served, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        download(server.address + NET, home / "net.safetensors", lambda done, total: None)
    assert [p for p in home.rglob("*") if p.is_file()] == []


def test_a_file_of_the_hub_is_fetched_through_its_client_and_found_again(hub: Served) -> None:
    told: list[tuple[int, int | None]] = []
    wanted = source(repository="timm/net.tag")
    assert locate(wanted) is None
    path = fetch(wanted, lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert locate(wanted) == path
    assert hash_in_name(path) == HASH and verify(path) == "intact"
    asked = len(hub.asked)
    assert fetch(wanted) == path
    assert len(hub.asked) == asked
    torch.testing.assert_close(obtain(wanted)["weight"], torch.arange(300_000, dtype=torch.float32))


def test_a_repository_without_safetensors_gives_its_other_file(hub: Served) -> None:
    stream = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, stream)
    hub.files = {HUB.replace("model.safetensors", "pytorch_model.bin"): stream.getvalue()}
    assert fetch(source(repository="timm/net.tag")).name == "pytorch_model.bin"
    assert obtain(source(repository="timm/net.tag"))["weight"].tolist() == [1, 1, 1]


def test_a_file_of_the_hub_with_another_checksum_is_thrown_away(hub: Served) -> None:
    hub.announced[HUB] = "0" * 64
    with pytest.raises(DamagedFileError, match="another checksum"):
        download_from_hub("timm/net.tag", ["model.safetensors"], lambda done, total: None)
    assert locate(source(repository="timm/net.tag")) is None


def test_without_internet_the_message_says_what_to_do(home: Path) -> None:
    with pytest.raises(WeightsError) as failure:
        fetch(source("http://127.0.0.1:9/net-12345678.pth"))
    said = str(failure.value)
    for hint in (
        "weights fetch net --to FOLDER",
        "http://127.0.0.1:9/net-12345678.pth",
        str(home / "own"),
        "scale-space",
    ):
        assert hint in said
    assert stock.FOLDER_VARIABLE in said


def test_a_repository_that_has_nothing_is_no_reason_for_random_weights(hub: Served) -> None:
    hub.files.clear()
    with pytest.raises(WeightsError, match=r"could not be downloaded .*has none of: model\.safetensors"):
        obtain(source(repository="timm/net.tag"))
    with pytest.raises(WeightsError, match="nobody offers trained weights for net"):
        obtain(source())


def test_whoever_has_no_better_report_reads_the_licence_and_the_progress_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = to_stderr("net", "Read the licence.")
    assert capsys.readouterr().err == ""
    report(1, 2)
    report(2, 2)
    assert capsys.readouterr().err == "Read the licence.\n"
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    report = to_stderr("net", "Read the licence.")
    report(1_000_000, 2_000_000)
    report(2_000_000, 2_000_000)
    shown = "Read the licence.\n\rDownloading net: 1 of 2 MB\rDownloading net: 2 of 2 MB\n"
    assert terminal.getvalue() == shown
    monkeypatch.setattr(sys, "stderr", None)  # a program without a console on Windows
    to_stderr("net", "Read the licence.")(1, 2)


# ---------------------------------------------------------------------------- folders of the user
def test_the_folder_that_the_variable_names_comes_before_the_own_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, own = home / "named", home / "own"
    for folder in (named, own):
        folder.mkdir()
        (folder / "net.safetensors").write_bytes(CONTENT)
    assert locate(source()) == own / "net.safetensors"
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(named))
    assert locate(source()) == named / "net.safetensors"
    (named / NET[1:]).write_bytes(CONTENT)  # the very file is better than one with that name
    assert locate(source()) == named / NET[1:]
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(home / "nowhere"))
    with pytest.raises(WeightsError, match="not a folder"):
        locate(source())


def test_a_repository_copied_into_a_folder_is_known_by_its_name(home: Path) -> None:
    (home / "own" / "net").mkdir(parents=True)
    (home / "own" / "net" / "model.safetensors").write_bytes(CONTENT)
    assert locate(source()) == home / "own" / "net" / "model.safetensors"


@pytest.mark.parametrize("other", ["network.pth", "net.txt", "my-net.pth"])
def test_files_of_other_networks_are_left_alone(home: Path, other: str) -> None:
    (home / "own").mkdir()
    (home / "own" / other).write_bytes(CONTENT)
    assert locate(source()) is None


def test_weights_can_be_carried_to_a_computer_without_internet(
    hub: Served, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = source(repository="timm/net.tag")
    fetch(wanted)
    carried = copy_into(wanted, home / "stick")
    assert carried.name == f"net-{HASH[:8]}.safetensors" and not carried.is_symlink()
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(home / "stick"))
    assert locate(wanted) == carried
    assert copy_into(wanted, home / "stick") == carried  # onto itself
    (home / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="choose another folder"):
        copy_into(wanted, home / "file" / "below")
    monkeypatch.setenv(stock.FOLDER_VARIABLE, "")
    with pytest.raises(WeightsError, match="fetch them first"):
        copy_into(source(), home)


# ---------------------------------------------------------------------------- reading and checking
def test_tensors_in_the_wrapping_of_a_training_program_are_found(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"weight": torch.ones(2)}}, tmp_path / "net.pth")
    assert read_weights(tmp_path / "net.pth")["weight"].tolist() == [1, 1]
    torch.save({"epoch": 3}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="export its state_dict"):
        read_weights(tmp_path / "net.pth")


def test_the_fingerprint_depends_on_every_bit_and_name() -> None:
    tensors = {"a": torch.zeros(2, 3), "n": torch.tensor(7), "h": torch.ones(2, dtype=torch.bfloat16)}
    same = stock.fingerprint(dict(reversed(tensors.items())))
    assert stock.fingerprint(tensors) == same
    assert stock.fingerprint(tensors | {"n": torch.tensor(8)}) != same
    assert stock.fingerprint(tensors | {"m": torch.zeros(1)}) != same


def test_a_file_is_checked_by_the_hash_that_its_name_tells(tmp_path: Path) -> None:
    (tmp_path / NET[1:]).write_bytes(CONTENT)
    assert verify(tmp_path / NET[1:]) == "intact"
    (tmp_path / NET[1:]).write_bytes(CONTENT + b"x")
    assert verify(tmp_path / NET[1:]) == "damaged"
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    assert verify(tmp_path / "mine.pth") == "no checksum"


def test_shipped_weights_are_checked_against_their_cards(tmp_path: Path) -> None:
    cards = [{"name": n, "file": f"{n}.safetensors", "sha256": HASH, "licence": "MIT"} for n in ("good", "bad", "gone")]
    (tmp_path / "index.json").write_text(json.dumps({"version": 1, "weights": cards}))
    (tmp_path / "good.safetensors").write_bytes(CONTENT)
    save_file({"weight": torch.ones(1)}, tmp_path / "bad.safetensors")
    verdicts = {path.stem: verdict for path, verdict in stock.verify_shipped(tmp_path)}
    assert verdicts == {"good": "intact", "bad": "damaged", "gone": "missing"}
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(WeightsError, match="install napari-fewshot again"):
        list(stock.verify_shipped(tmp_path))
    assert all(verdict == "intact" for _, verdict in stock.verify_shipped())


# ---------------------------------------------------------------------------- licences
def test_every_card_that_needs_weights_tells_their_licence_address_and_size() -> None:
    for card in list_backbones():
        found = weights_source(card.name)
        assert bool(card.licence) == bool(card.notice) == card.needs_weights == (found is not None)
        assert licence_notice(card.name) == card.notice
        if found is not None:
            assert card.name in card.notice and "ImageNet" in card.notice and "BSD-3-Clause" in card.notice
            assert found.notice == card.notice
            assert found.url.startswith("https://") and hash_in_name(Path(found.url)) is not None
            assert found.size > 1e6
    assert licence_notice() == "" and fetch_weights() is None


def test_the_size_that_a_card_tells_is_that_of_the_download() -> None:
    for card in list_backbones():
        found = weights_source(card.name)
        if found is not None:
            told = int(card.summary.partition("about ")[2].partition(" MB")[0])
            assert told * 2**20 == pytest.approx(found.size, rel=0.05)


def test_an_unknown_backbone_has_no_licence() -> None:
    with pytest.raises(SettingsError, match=r"choose one of: mica, scale-space.*timm:<model>"):
        licence_notice("magic")


def test_torchvision_weights_are_downloaded_ahead_under_their_own_name(
    server: Served, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def copy(url: str, target: Path, report: object) -> None:
        asked.append(url)
        target.parent.mkdir(parents=True)
        target.write_bytes(CONTENT)

    monkeypatch.setattr(stock, "download", copy)
    path = fetch_weights("resnet18")
    assert path == home / "torch" / "checkpoints" / "resnet18-f37072fd.pth"
    assert asked == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]
