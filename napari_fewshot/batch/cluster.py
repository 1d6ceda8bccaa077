"""Frames, and parts of large ones, as tasks of Dask workers: on this machine, on a cluster that runs, or of SLURM.

What was learnt is sent to each worker once. A worker reads images itself and writes the labels of each frame or part
itself, completely or not at all, so that one whose worker died is simply done again. Labels do not depend on the number
of workers: each frame or part is computed on its own, with the same number of threads.
"""

import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from napari_fewshot.batch.frames import Done, Job, do_job
from napari_fewshot.errors import FewShotError, SettingsError
from napari_fewshot.io.optional import needed
from napari_fewshot.models.cache_settings import CacheSettings
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import Concept, FewShotSegmenter, SegmenterSettings

_AHEAD: Final = 3
"""Frames for each worker that wait in its queue: it never idles, and a million frames do not lie in memory."""

_MEMORY_GIB: Final = 0.4
"""For features, of each worker: those of a slice of 2048 x 2048 pixels, or of a few tiles of a larger one."""

_ANY_PORT: Final = "127.0.0.1:0"  # without it, a second run finds the usual port taken; nobody else may connect
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2"}  # glibc gives each thread a heap of its own, and little of it back
_PATIENCE: Final = 30  # seconds until a scheduler has to answer
_SLURM: Final = ("workers", "cores", "memory", "walltime", "queue", "account")


@dataclass(frozen=True)
class Order:
    """How each worker is to work.

    Attributes
    ----------
    token
        Of this run: a worker sets up once for each.
    segmenter
        To load; the device "auto" is the fastest that a worker has.
    settings
        How proposals are made.
    seed, threads
        See `fix_chance`.
    cache
        Where a worker keeps features.
    """

    token: str
    segmenter: SegmenterSettings
    settings: PropagationSettings
    seed: int
    threads: int
    cache: CacheSettings


_ready: dict[str, Concept] = {}  # in a worker: what the run that it works for has learnt


def work(job: Job, fitted: Any, order: Order) -> Done:
    """Do a frame in a worker."""
    if order.token not in _ready:
        from napari_fewshot.models import load_segmenter
        from napari_fewshot.models.cache import FeatureCache
        from napari_fewshot.models.fitted import unpack
        from napari_fewshot.models.reproducible import fix_chance

        fix_chance(order.seed, order.threads)
        cache = FeatureCache.from_settings(order.cache)
        chosen = order.segmenter
        segmenter = load_segmenter(chosen.method, backbone=chosen.backbone, device=chosen.device, cache=cache)
        _ready.clear()
        _ready[order.token] = unpack(fitted, segmenter)
    return do_job(job, _ready[order.token], order.settings)


class DaskWorkers:
    """Does jobs on the workers of a cluster; see `Workers`.

    Parameters
    ----------
    client
        Of the cluster.
    concept, segmenter
        What was learnt, and by what.
    order
        How to work.
    """

    def __init__(self, client: Any, concept: Concept, segmenter: FewShotSegmenter, order: Order) -> None:
        from napari_fewshot.models.fitted import pack

        self._client, self._order = client, order
        self._fitted = client.scatter(pack(concept, segmenter), broadcast=True, hash=False)

    def results(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Do each job, in any order; a job whose worker dies is given to another one.

        Raises
        ------
        ExportError
            If labels cannot be written.
        FewShotError
            If the cluster is gone.
        """
        distributed = needed("distributed", "cluster", "--cluster")
        running: dict[Any, Job] = {}
        waiting = distributed.as_completed(loop=self._client.loop)
        queue = iter(jobs)
        while True:
            room = _AHEAD * max(1, len(self._client.nthreads())) - len(running)
            for job in islice(queue, max(0, room)):
                future = self._client.submit(work, job, self._fitted, self._order, pure=False)
                running[future.key] = job
                waiting.add(future)
            if not running:
                return
            future = next(waiting)
            yield self._done(running.pop(future.key), future)

    def each(self, function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """See `Workers`; before frames that wait in a queue.

        Raises
        ------
        FewShotError
            If one of the calls does, several workers die of it, or the cluster is gone.
        """
        distributed = needed("distributed", "cluster", "--cluster")
        futures = [self._client.submit(function, *each, pure=False, priority=1) for each in arguments]
        try:
            for future in distributed.as_completed(futures, loop=self._client.loop):
                future.result()
        except distributed.KilledWorker as error:
            raise FewShotError("several workers died while they wrote labels; give workers more memory") from error
        except (CancelledError, OSError) as error:
            raise _gone(error) from error

    def _done(self, job: Job, future: Any) -> Done:
        distributed = needed("distributed", "cluster", "--cluster")
        try:
            done: Done = future.result()
        except distributed.KilledWorker:
            return Done(job, failure="several workers died on it; give workers more memory, and --resume goes on")
        except (CancelledError, OSError) as error:
            raise _gone(error) from error
        return done


def _gone(error: BaseException) -> FewShotError:
    return FewShotError(f"the cluster is gone ({error}); start it, and the same command with --resume goes on")


@contextmanager
def connected(where: str, threads: int = 1) -> Iterator[Any]:
    """Connect to workers, starting them where that is asked for; what was started ends with the block.

    Parameters
    ----------
    where
        ``local:N`` for N processes on this machine, the address of a scheduler (``tcp://host:8786``), or
        ``slurm:workers=4,cores=8,memory=16GB`` with walltime, queue and account as well.
    threads
        Of each worker on this machine.

    Yields
    ------
    distributed.Client
        Connected.

    Raises
    ------
    SettingsError
        If ``where`` says something else, nobody answers, or a library is missing.
    """
    check_place(where)
    distributed = needed("distributed", "cluster", "--cluster")
    with ExitStack() as stack:
        target: Any = where
        if where.startswith("local:"):
            target = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=int(where.removeprefix("local:")), threads_per_worker=1, dashboard_address=_ANY_PORT,
                    silence_logs=logging.CRITICAL, env={**_ENVIRONMENT, "OMP_NUM_THREADS": str(threads)},
                )
            )  # fmt: skip
        elif where.startswith("slurm:"):
            told = slurm_options(where)
            target = stack.enter_context(slurm_cluster(told))
            target.scale(jobs=int(told["workers"]))
        try:
            client = stack.enter_context(distributed.Client(target, timeout=_PATIENCE, set_as_default=False))
        except (OSError, TimeoutError, ValueError) as error:
            raise SettingsError(
                f"no scheduler answers at {where}; start one with 'dask scheduler', and name the address that it tells"
            ) from error
        yield client


def check_place(where: str) -> None:
    """Refuse at once what cannot be a cluster.

    Raises
    ------
    SettingsError
        If it is none.
    """
    local = re.fullmatch(r"local:([1-9]\d{0,3})", where)
    address = re.fullmatch(r"(tcp|tls|ucx|ws|wss)://[^\s/]+:\d+/?", where)
    if not local and not address and not where.startswith("slurm:"):
        raise SettingsError(
            f"'{where}' is no cluster; say local:2 for two processes on this machine, tcp://HOST:8786 for a scheduler "
            "that runs, or slurm:workers=4,cores=8,memory=16GB"
        )
    if where.startswith("slurm:"):
        slurm_options(where)


def slurm_options(where: str) -> dict[str, str]:
    """Read ``slurm:workers=4,cores=8,memory=16GB,...``.

    Raises
    ------
    SettingsError
        If something is missing or not known.
    """
    told = dict(part.partition("=")[::2] for part in where.removeprefix("slurm:").split(",") if part)
    wrong = [name for name, value in told.items() if name not in _SLURM or not value]
    if wrong or not {"workers", "cores", "memory"} <= told.keys() or not (told["workers"] + told["cores"]).isdigit():
        raise SettingsError(
            f"'{where}' does not say what SLURM is to be asked for; "
            "say slurm:workers=4,cores=8,memory=16GB, and if need be walltime=, queue=, account="
        )
    return told


def slurm_cluster(told: dict[str, str]) -> Any:
    """Make a cluster whose jobs have one worker each, which does a frame at a time; nothing is submitted yet.

    Raises
    ------
    SettingsError
        If dask-jobqueue is not installed.
    """
    jobqueue = needed("dask_jobqueue", "cluster", "--cluster slurm")
    cores = int(told["cores"])
    rest = {name: value for name, value in told.items() if name not in ("workers", "cores")}
    return jobqueue.SLURMCluster(processes=1, cores=1, job_cpu=cores, scheduler_options={"dashboard": False}, **rest)


def order(
    segmenter: SegmenterSettings, settings: PropagationSettings, *, seed: int, threads: int, cache: CacheSettings
) -> Order:
    """Make the order of a new run; workers keep fewer features in memory, of which each has its own."""
    less = replace(cache, memory_gib=min(cache.memory_gib, _MEMORY_GIB))
    return Order(f"{os.getpid()}-{secrets.token_hex(8)}", segmenter, settings, seed, threads, less)
