import errno
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from napari_fewshot.models import cache_folder, disk_cache
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.cache_folder import CacheFolder
from napari_fewshot.models.cache_settings import CacheSettings, CacheUsage
from napari_fewshot.models.disk_cache import DiskCache, on_device

KEY = "resnet18 abc|unit-range-1|float16|0123"
BIG = 1 << 40


@pytest.fixture(autouse=True)
def _small_disks_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folder, "RESERVE", 0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCache]:
    disk = DiskCache(CacheFolder(tmp_path / "features", BIG))
    yield disk
    assert disk.flush(timeout=10)


def pyramid(seed: int = 0, dtype: torch.dtype = torch.float16, side: int = 16) -> FeaturePyramid:
    generator = torch.Generator().manual_seed(seed)
    features = {
        Level(stride, alignment): torch.randn((channels, side // stride, side // stride), generator=generator).to(dtype)
        for stride, alignment, channels in ((2, "centre", 3), (4, "corner", 5))
    }
    return FeaturePyramid(features, (side - 1, side))


def bits(of: FeaturePyramid) -> tuple[object, ...]:
    """All that there is to a pyramid, NaNs and signed zeros included."""
    return of.size, [
        (level, f.dtype, f.shape, f.contiguous().view(torch.uint8).numpy().tobytes())
        for level, f in of.features.items()
    ]


def written(disk: DiskCache, key: str = KEY, seed: int = 0) -> Path:
    disk.put(key, pyramid(seed))
    assert disk.flush(timeout=10)
    return disk.folder.path_of(key)


# ------------------------------------------------------------ values


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fresh_memory_queue_and_disk_agree_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    fresh = pyramid(dtype=dtype)
    next(iter(fresh.features.values())).view(-1)[:4] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-7]).to(dtype)
    cache = FeatureCache(disk=DiskCache(CacheFolder(tmp_path, BIG)))
    assert cache.put(KEY, fresh) is fresh
    assert cache.get(KEY) is fresh  # memory
    assert cache.disk is not None
    from_queue = cache.disk.get(KEY)
    assert from_queue is not None and bits(from_queue) == bits(fresh)
    assert cache.flush(timeout=10)
    tomorrow = FeatureCache(disk=DiskCache(CacheFolder(tmp_path, BIG)))
    from_disk = tomorrow.get(KEY, "cpu")
    assert from_disk is not None and bits(from_disk) == bits(fresh)
    assert tomorrow.get(KEY) is from_disk  # it is in memory now


def test_features_keep_their_layout_so_that_sums_over_them_keep_their_last_bit(disk: DiskCache) -> None:
    channels_last = torch.randn(4, 6, 8).permute(2, 0, 1)  # (8, 4, 6), values of one pixel side by side
    disk.put(KEY, FeaturePyramid({Level(1): channels_last, Level(2): torch.randn(0, 2, 3)}, (4, 6)))
    disk.flush(timeout=10)
    back = disk.get(KEY)
    assert back is not None
    first, second = back.features.values()
    assert torch.equal(first, channels_last) and first.stride() == channels_last.stride()
    assert second.shape == (0, 2, 3)


def test_a_feature_cut_out_of_a_batch_does_not_hold_the_batch(disk: DiskCache) -> None:
    batch = torch.randn(10, 3, 8, 8)
    cut = FeaturePyramid({Level(1): batch[4], Level(2): batch[5, :, :4, :4]}, (8, 8))
    kept = FeatureCache(disk=disk).put(KEY, cut)
    assert bits(kept) == bits(cut)
    assert sum(f.untyped_storage().nbytes() for f in kept.features.values()) == kept.nbytes == cut.nbytes
    disk.flush(timeout=10)
    back = disk.get(KEY)
    assert back is not None and bits(back) == bits(cut)
    assert [f.stride() for f in back.features.values()] == [f.stride() for f in kept.features.values()]


def test_entries_are_safetensors_files_that_the_library_reads(disk: DiskCache) -> None:
    fresh = pyramid(dtype=torch.bfloat16)
    disk.put(KEY, fresh)
    disk.flush(timeout=10)
    with safe_open(disk.folder.path_of(KEY), "pt") as file:
        read = [file.get_tensor(name) for name in sorted(file.keys())]
        assert KEY in file.metadata()["entry"]
    assert all(torch.equal(a, b) for a, b in zip(read, fresh.features.values(), strict=True))


def test_what_is_not_floating_point_stays_in_memory(tmp_path: Path) -> None:
    cache = FeatureCache(disk=DiskCache(CacheFolder(tmp_path, BIG)))
    cache.put(KEY, FeaturePyramid({Level(1): torch.zeros(1, 2, 2, dtype=torch.int64)}, (2, 2)))
    assert cache.get(KEY) is not None and cache.flush() and not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_features_come_and_go_to_the_device_that_is_asked_for(tmp_path: Path) -> None:
    fresh = pyramid(side=512)
    cache = FeatureCache(disk=DiskCache(CacheFolder(tmp_path, BIG)))
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)  # the values are not there yet when they are handed over
        late = FeaturePyramid({lv: f.cuda(non_blocking=True) + 0 for lv, f in fresh.features.items()}, fresh.size)
        cache.put(KEY, late)
    assert cache.flush(timeout=10)
    tomorrow = FeatureCache(disk=DiskCache(CacheFolder(tmp_path, BIG)))
    back = tomorrow.get(KEY, "cuda")
    assert back is not None and all(f.is_cuda for f in back.features.values())
    assert bits(on_device(back, "cpu")) == bits(fresh)
    on_cpu = tomorrow.get(KEY, "cpu")
    assert on_cpu is not None and bits(on_cpu) == bits(fresh)


# ------------------------------------------------------------ limits


def ages(folder: Path) -> None:
    """Let all entries be a minute older, whatever the resolution of the file system's clock."""
    for file in folder.iterdir():
        status = file.stat()
        os.utime(file, (status.st_atime - 60, status.st_mtime - 60))


def test_the_disk_gives_up_what_was_used_longest_ago(tmp_path: Path) -> None:
    size = written(DiskCache(CacheFolder(tmp_path / "probe", BIG))).stat().st_size
    folder = tmp_path / "features"
    disk = DiskCache(CacheFolder(folder, 4 * size))
    for name in "abcd":
        written(disk, name)
        ages(folder)
    assert disk.get("a") is not None
    ages(folder)
    written(disk, "e")
    there = [name for name in "abcde" if disk.get(name)]
    assert "a" in there and "e" in there and "b" not in there
    assert disk.usage()[0] <= 4 * size


def test_many_entries_stay_under_the_limit_without_a_look_at_the_folder_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = written(DiskCache(CacheFolder(tmp_path / "probe", BIG))).stat().st_size
    folder = CacheFolder(tmp_path / "features", 64 * size)
    looks = 0
    look = CacheFolder.files

    def counted(self: CacheFolder) -> list[cache_folder.CacheFile]:
        nonlocal looks
        looks += 1
        return look(self)

    monkeypatch.setattr(CacheFolder, "files", counted)
    for index in range(300):
        folder.write(str(index), [b"x" * size], size)
        if index % 20 == 0:
            assert sum(f.stat().st_size for f in folder.path.iterdir()) <= 64 * size
    assert sum(f.stat().st_size for f in folder.path.iterdir()) >= 50 * size
    assert looks < 150


def test_two_writers_that_know_nothing_of_each_other_stay_under_the_limit(tmp_path: Path) -> None:
    one, other = CacheFolder(tmp_path, 1000), CacheFolder(tmp_path, 1000)
    for index in range(200):
        (one if index % 2 else other).write(str(index), [bytes(50)], 50)
        assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 1000


def test_an_entry_larger_than_the_limit_is_not_kept_and_removes_nothing(tmp_path: Path) -> None:
    size = written(DiskCache(CacheFolder(tmp_path / "probe", BIG))).stat().st_size
    disk = DiskCache(CacheFolder(tmp_path / "features", 2 * size))
    written(disk, "a")
    disk.put("huge", pyramid(side=64))
    disk.flush(timeout=10)
    assert disk.get("huge") is None and disk.get("a") is not None
    assert disk.notice is not None and "raise the limit" in disk.notice
    written(disk, "b")
    assert disk.notice is None


def test_what_killed_writers_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    disk = DiskCache(CacheFolder(tmp_path, BIG))
    entry = written(disk, "a")
    old, young = (entry.with_name(f"{entry.name}.{token}.partial") for token in ("0123abcd", "deadbeef"))
    old.write_bytes(b"half"), young.write_bytes(b"half")
    os.utime(old, (time.time() - 3700,) * 2)
    foreign = tmp_path / "letter.safetensors"
    foreign.write_bytes(b"mine")
    os.utime(foreign, (0, 0))
    written(DiskCache(CacheFolder(tmp_path, BIG)), "b")
    assert not old.exists() and young.exists() and foreign.read_bytes() == b"mine"
    disk.clear()
    assert sorted(tmp_path.iterdir()) == sorted([young, foreign])


# ------------------------------------------------------------ damage


def flipped(position: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        at = int(position * (len(data) - 1))
        return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]

    return flip


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing at all": lambda data: b"",
    "three bytes": lambda data: data[:3],
    "header only": lambda data: data[: 8 + int.from_bytes(data[:8], "little")],
    "last byte missing": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "second half zeros": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "huge header": lambda data: (2**63).to_bytes(8, "little") + data[8:],
    "longer header": lambda data: (len(data)).to_bytes(8, "little") + data[8:],
    "header nested without end": lambda data: (900_000).to_bytes(8, "little") + b"[" * 1_000_000,
    "header is no JSON": lambda data: data[:8] + b"?" * (len(data) - 8),
    "JSON of something else": lambda data: (2).to_bytes(8, "little") + b"[]",
    "foreign safetensors": lambda data: (40).to_bytes(8, "little") + b'{"__metadata__":{"entry":"{}"}}'.ljust(40),
    "newer version": lambda data: data.replace(b"napari-fewshot features 1", b"napari-fewshot features 2"),
    "another size": lambda data: data.replace(b"[15, 16]", b"[16, 16]"),
    "pickle": lambda data: pickle.dumps({"a": 1}),
    **{f"bit at {percent} %": flipped(percent / 100) for percent in range(0, 101, 4)},
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_is_removed_and_made_again(disk: DiskCache, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(disk)
    good = path.read_bytes()
    damaged = DAMAGE[kind](good)
    assert damaged != good
    path.write_bytes(damaged)
    monkeypatch.setattr(pickle, "Unpickler", None)
    assert disk.get(KEY) is None
    assert not path.exists()
    written(disk)
    back = disk.get(KEY)
    assert back is not None and bits(back) == bits(pyramid()) and path.read_bytes() == good


def test_every_single_byte_is_watched(disk: DiskCache) -> None:
    path = written(disk)
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert disk.get(KEY) is None, f"byte {at} of {len(good)}"
    path.write_bytes(good)
    assert disk.get(KEY) is not None


def test_a_file_under_the_name_of_another_key_is_not_taken_for_it(disk: DiskCache) -> None:
    other = disk.folder.path_of("another image")
    shutil.copy(written(disk), other)
    assert disk.get("another image") is None and not other.exists()
    assert disk.get(KEY) is not None


# ------------------------------------------------------------ disks that refuse


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "all but full; free some space"),
        (errno.EROFS, "cannot be written to; name another folder by NAPARI_FEWSHOT_CACHE"),
        (errno.EACCES, "cannot be written to"),
        (errno.EIO, "was not written to"),
    ],
)
def test_a_disk_that_refuses_is_told_once_and_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    cache = FeatureCache(disk=DiskCache(CacheFolder(tmp_path, BIG)))
    attempts = 0
    write = cache_folder._write_all

    def refuse(descriptor: int, part: cache_folder.Bytes) -> None:
        nonlocal attempts
        attempts += 1
        write(descriptor, part[: len(part) // 2])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache_folder, "_write_all", refuse)
    for name in "abc":
        cache.put(name, pyramid())
        assert cache.flush(timeout=10)
        assert cache.notice is not None and told in cache.notice
    assert attempts == 1
    assert not list(tmp_path.iterdir())
    assert all(cache.get(name) for name in "abc")  # in memory
    monkeypatch.undo()
    monkeypatch.setattr(disk_cache, "PAUSE", 0.0)
    monkeypatch.setattr(cache_folder, "RESERVE", 0)
    cache.clear()
    cache.put("d", pyramid())
    assert cache.flush(timeout=10) and cache.notice is None and len(list(tmp_path.iterdir())) == 1


def test_the_last_of_the_disk_is_left_to_others_and_old_entries_make_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    room = 10_000

    def free(path: Path) -> usage:
        taken = sum(file.stat().st_size for file in path.iterdir())
        return usage(10**6, 10**6 - 1000 - room + taken, 1000 + room - taken)

    monkeypatch.setattr(cache_folder, "RESERVE", 1000)
    monkeypatch.setattr(shutil, "disk_usage", free)
    disk = DiskCache(CacheFolder(tmp_path, BIG))
    for index in range(20):
        written(disk, str(index))
        assert disk.notice is None and free(tmp_path).free >= 1000
        ages(tmp_path)
    assert disk.get("19") is not None and disk.get("0") is None
    room = 100  # another program took the rest
    written(disk, "20")
    assert disk.notice is not None and "full" in disk.notice and disk.get("20") is None


def test_a_folder_that_cannot_be_made_costs_the_disk_only(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"in the way")
    cache = FeatureCache.from_settings(CacheSettings(folder=file))
    assert cache.get("a") is None
    cache.put("a", pyramid())
    assert cache.flush(timeout=10) and cache.get("a") is not None
    assert cache.notice is not None and "cannot be written to" in cache.notice
    assert cache.usage().disk_bytes == 0 and file.read_bytes() == b"in the way"


def test_a_read_only_folder_is_still_read(disk: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    written(disk)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)  # chmod would not stop root
    monkeypatch.setattr(cache_folder, "open", refuse, raising=False)
    assert disk.get(KEY) is not None
    written(disk, "b")
    assert disk.notice is not None and "cannot be written to" in disk.notice
    disk.folder.limit = int(1.5 * disk.usage()[0])  # now it had to remove something first
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(disk_cache, "PAUSE", 0.0)
    disk = DiskCache(CacheFolder(disk.folder.path, disk.folder.limit))
    written(disk, "b")
    assert disk.notice is not None and "cannot be written to" in disk.notice


def test_windows_refusing_to_replace_what_is_being_read_is_no_failure(
    disk: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(disk)

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr(os, "replace", refuse)
    written(disk)
    assert disk.notice is None and list(path.parent.iterdir()) == [path]


# ------------------------------------------------------------ the queue


def test_a_disk_that_is_too_slow_costs_entries_and_not_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    write = CacheFolder.write

    def slow(self: CacheFolder, key: str, parts: list[cache_folder.Bytes], size: int) -> bool:
        go_on.wait(10)
        return write(self, key, parts, size)

    monkeypatch.setattr(CacheFolder, "write", slow)
    monkeypatch.setattr(disk_cache, "QUEUE_BYTES", 3 * pyramid().nbytes)
    disk = DiskCache(CacheFolder(tmp_path, BIG))
    start = time.perf_counter()
    for name in "abcdef":
        disk.put(name, pyramid())
    assert time.perf_counter() - start < 5
    assert not disk.flush(timeout=0.01)
    assert [name for name in "abcdef" if disk.get(name)] == ["a", "b", "c"]  # served while they wait
    go_on.set()
    assert disk.flush(timeout=10)
    assert [name for name in "abcdef" if DiskCache(disk.folder).get(name)] == ["a", "b", "c"]


def test_clearing_forgets_what_waits_to_be_written(tmp_path: Path) -> None:
    cache = FeatureCache(disk=DiskCache(CacheFolder(tmp_path, BIG)))
    for index in range(20):
        cache.put(str(index), pyramid(index))
    cache.clear()
    assert cache.flush(timeout=10)
    assert cache.usage().entries == 0 and not list(tmp_path.iterdir())


def test_usage_counts_an_image_once_wherever_its_features_are(tmp_path: Path) -> None:
    one = pyramid().nbytes
    cache = FeatureCache(limit=2 * one, disk=DiskCache(CacheFolder(tmp_path, BIG)))
    for name in "abc":
        cache.put(name, pyramid())
    assert cache.usage().entries == 3
    cache.flush(timeout=10)
    usage = cache.usage()
    assert (usage.memory_bytes, usage.entries) == (2 * one, 3)
    assert usage.disk_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    cache.release_memory()
    assert cache.usage() == CacheUsage(0, usage.disk_bytes, 3) and cache.get("a") is not None
    assert FeatureCache(limit=one).usage().disk_bytes == 0


def test_python_writes_what_waits_before_it_exits(tmp_path: Path) -> None:
    run = run_python(
        f"cache = cache_in({str(tmp_path)!r})\nfor i in range(8): cache.put(str(i), random_pyramid(i, 64))"
    )
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    disk = DiskCache(CacheFolder(tmp_path, BIG))
    for index in range(8):
        back = disk.get(str(index))
        assert back is not None and bits(back) == bits(random_pyramid(index, 64))


# ------------------------------------------------------------ several threads and processes

PRELUDE = """
from pathlib import Path
import torch
from napari_fewshot.models import cache_folder
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.cache_folder import CacheFolder
from napari_fewshot.models.disk_cache import DiskCache

cache_folder.RESERVE = 0
torch.set_num_threads(1)

def cache_in(path, limit=1 << 40):
    return FeatureCache(0, DiskCache(CacheFolder(Path(path), limit)))

def random_pyramid(seed, side):
    values = torch.randn(8, side, side, generator=torch.Generator().manual_seed(seed)).half()
    return FeaturePyramid({Level(1): values}, (side, side))

def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.features.values(), b.features.values(), strict=True))
"""


def random_pyramid(seed: int, side: int) -> FeaturePyramid:
    values = torch.randn(8, side, side, generator=torch.Generator().manual_seed(seed)).half()
    return FeaturePyramid({Level(1): values}, (side, side))


def run_python(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


HAMMER = """
import random
chance, cache, hits = random.Random(SEED), cache_in(PATH, LIMIT), 0
expected = [random_pyramid(i, 48) for i in range(12)]
for turn in range(200):
    i = chance.randrange(12)
    found = cache.get(str(i))
    if found is None:
        cache.put(str(i), expected[i])
    else:
        hits += 1
        assert same(found, expected[i]), "wrong bits"
    if turn % 67 == 66:
        cache.disk.clear()
assert cache.flush(20) and cache.notice is None, cache.notice
print(hits)
"""


def test_two_processes_on_one_folder_never_fail_and_never_see_wrong_bits(tmp_path: Path) -> None:
    size = random_pyramid(0, 48).nbytes + 1000
    runs = [
        run_python(
            HAMMER.replace("SEED", str(seed)).replace("PATH", repr(str(tmp_path))).replace("LIMIT", str(6 * size))
        )
        for seed in (1, 2)
    ]
    for run in runs:
        said, _ = run.communicate(timeout=60)
        assert run.returncode == 0, said
        assert int(said) > 20
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".partial"]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 6 * size


def test_threads_share_a_cache(tmp_path: Path) -> None:
    expected = [pyramid(seed) for seed in range(8)]
    cache = FeatureCache(3 * expected[0].nbytes, DiskCache(CacheFolder(tmp_path, 5 * 2000)))
    wrong: list[int] = []

    def work(offset: int) -> None:
        for turn in range(150):
            seed = (turn * (offset + 1) + offset) % 8
            found = cache.get(str(seed)) or cache.put(str(seed), pyramid(seed))
            if bits(found) != bits(expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and cache.flush(timeout=10) and cache.notice is None


WRITE_ON = """
import sys
from pathlib import Path
from napari_fewshot.models import cache_folder
cache_folder.RESERVE = 0
source, folder = (cache_folder.CacheFolder(Path(path), 1 << 40) for path in sys.argv[1:3])
entries = [source.path_of(str(i)).read_bytes() for i in range(8)]
assert "torch" not in sys.modules
i = 0
while True:
    folder.write(str(i % 8), [entries[i % 8][:1000], entries[i % 8][1000:]], len(entries[i % 8]))
    i += 1
    if i == 4: print("go", flush=True)
    PERHAPS
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_folder, "RESERVE", 0)
        disk = DiskCache(CacheFolder(folder, BIG))
        for index in range(8):
            disk.put(str(index), random_pyramid(index, 256))
        assert disk.flush(timeout=20) and disk.notice is None
    return folder


def check_all(folder: Path, at_least: int) -> None:
    disk = DiskCache(CacheFolder(folder, BIG))
    finished = [index for index in range(8) if disk.folder.path_of(str(index)).exists()]
    assert len(finished) >= at_least
    for index in finished:
        back = disk.get(str(index))
        assert back is not None and bits(back) == bits(random_pyramid(index, 256))


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.02])
def test_a_kill_leaves_a_good_cache(tmp_path: Path, source: Path, delay: float) -> None:
    command = [sys.executable, "-c", WRITE_ON.replace("PERHAPS", ""), str(source), str(tmp_path)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as run:
        try:
            assert run.stdout is not None and run.stdout.readline() == "go\n"
            time.sleep(delay)
        finally:
            run.kill()
    check_all(tmp_path, at_least=4)


def test_an_end_in_the_middle_of_a_write_leaves_what_was_there(tmp_path: Path, source: Path) -> None:
    die = (
        "if i == 10: import os; cache_folder._write_all = lambda file, part: os._exit(9) if len(part) > 1000 else None"
    )
    command = [sys.executable, "-c", WRITE_ON.replace("PERHAPS", die), str(source), str(tmp_path)]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60).returncode == 9
    assert sum(file.suffix == ".partial" for file in tmp_path.iterdir()) == 1
    check_all(tmp_path, at_least=8)


# ------------------------------------------------------------ settings


def test_the_folder_is_the_users_or_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE", str(tmp_path))
    assert CacheSettings().features_folder == tmp_path / "features"
    assert CacheSettings(folder=tmp_path / "mine").features_folder == tmp_path / "mine" / "features"
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE", " ")
    assert "napari-fewshot" in CacheSettings().features_folder.parts


def test_a_limit_of_nothing_turns_a_tier_off(tmp_path: Path) -> None:
    cache = FeatureCache.from_settings(CacheSettings(memory_gib=0, folder=tmp_path))
    cache.put(KEY, pyramid())
    cache.flush(timeout=10)
    assert cache.size == 0 and cache.get(KEY) is not None
    cache.apply(CacheSettings(disk_gib=0, folder=tmp_path))
    assert cache.get(KEY) is None and cache.usage().disk_bytes > 0
    cache.put(KEY, pyramid())
    assert cache.size > 0 and cache.get(KEY) is not None
    cache.clear()
    assert cache.usage().disk_bytes == 0


def test_a_lower_limit_takes_effect_at_once(tmp_path: Path) -> None:
    cache = FeatureCache.from_settings(CacheSettings(folder=tmp_path))
    for name in "abcdefgh":
        cache.put(name, pyramid())
    cache.flush(timeout=10)
    half = cache.usage().disk_bytes / 2
    cache.apply(CacheSettings(memory_gib=1e-6, disk_gib=half / (1 << 30), folder=tmp_path))
    usage = cache.usage()
    assert usage.memory_bytes <= 1074 and 0 < usage.disk_bytes <= half
    with pytest.raises(ValueError, match="use 0"):
        CacheSettings(disk_gib=-1)
    with pytest.raises(ValueError, match="use 0"):
        CacheSettings(memory_gib=float("nan"))
