"""Where independent tasks run: in this process, in others on this machine, or on a Dask cluster.

A task is a number. A worker that dies takes no task with it: the task is given to another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from pbpk.checks import choose

EXECUTORS = ("local", "dask")
THREADS = "OMP_NUM_THREADS"
"""The environment's name for how many threads numpy and torch take; they read it when they are imported."""

_DEATHS = 3  # of workers in a row without one task done: then it is the tasks that kill them
_PATIENCE = 10  # seconds for an answer of a scheduler

T = TypeVar("T")


def check(executor: str, workers: int, scheduler: str | None) -> None:
    """Raises unless an executor can be had.

    Raises:
        ValueError: If there is none of that name, its package is missing, or the numbers make no sense.
        OSError: If no scheduler answers.
    """
    choose("--executor", executor, EXECUTORS)
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, but is {workers}.")
    if scheduler is not None and executor != "dask":
        raise ValueError(f"--scheduler must come with --executor dask, but the executor is {executor!r}.")
    if executor == "dask":
        distributed = _distributed()
        if scheduler is not None:
            with _client(distributed, workers, scheduler):
                pass  # it answers


def run(
    work: Callable[[int], T],
    tasks: Sequence[int],
    executor: str = "local",
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[T]:
    """Yields the results of ``work(task)`` as they come.

    Arguments:
        work: A function that can be pickled.
        tasks: The tasks.
        executor: One of :data:`EXECUTORS`.
        workers: How many processes; with 1, ``"local"`` works in this one.
        scheduler: The address of a running Dask scheduler; None starts a cluster on this machine.

    Raises:
        OSError: If workers keep dying, or no scheduler answers.

    >>> sorted(run(abs, [-2, 1]))
    [1, 2]
    """
    if choose("--executor", executor, EXECUTORS) == "dask":
        yield from _dask(work, tasks, workers, scheduler)
    elif workers == 1 or len(tasks) < 2:
        yield from map(work, tasks)
    else:
        yield from _processes(work, tasks, min(workers, len(tasks)))


def _processes(work: Callable[[int], T], tasks: Sequence[int], workers: int) -> Iterator[T]:
    left, deaths = list(tasks), 0
    while left:
        try:
            for task, result in _pool(work, left, workers):
                left.remove(task)
                deaths = 0
                yield result
        except BrokenProcessPool:
            deaths += 1
            if deaths >= _DEATHS:
                raise _dying() from None


def _pool(work: Callable[[int], T], tasks: Sequence[int], workers: int) -> Iterator[tuple[int, T]]:
    """Yields tasks with their results until all are done or a worker dies."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads half alive
    with _one_thread_each():
        pool = ProcessPoolExecutor(workers, context, _die_with_parent)
        try:
            futures: dict[Future[T], int] = {pool.submit(work, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Has the processes that begin meanwhile compute on one thread each: the others would wait in vain."""
    before = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, "1")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(THREADS, None)


def _die_with_parent() -> None:
    """Ends this process once its parent is gone, even if that was killed and could not say so."""
    from multiprocessing import parent_process

    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _dying() -> OSError:
    return OSError(
        f"workers must live, but {_DEATHS} in a row died at work. Most often the memory is too small: "
        "take fewer --workers."
    )


def _dask(work: Callable[[int], T], tasks: Sequence[int], workers: int, scheduler: str | None) -> Iterator[T]:
    distributed = _distributed()
    with _client(distributed, workers, scheduler) as client:
        futures = client.map(work, tasks, pure=False)
        try:
            for _, result in distributed.as_completed(futures, with_results=True):
                yield result
        except distributed.scheduler.KilledWorker:
            raise _dying() from None
        finally:
            client.cancel(futures)


@contextmanager
def _client(distributed: Any, workers: int, scheduler: str | None) -> Iterator[Any]:
    import tempfile

    import dask

    settings = {
        "distributed.scheduler.allowed-failures": _DEATHS,
        "distributed.comm.timeouts.connect": _PATIENCE,
    }
    with dask.config.set(settings), tempfile.TemporaryDirectory() as scratch:
        if scheduler is not None:
            try:
                client = distributed.Client(scheduler, timeout=_PATIENCE)
            except (OSError, ValueError):
                raise OSError(
                    f"--scheduler must be the address of a running Dask scheduler, but none answers at "
                    f"{scheduler!r}. Start one with 'dask scheduler', or leave it out."
                ) from None
            with client:
                yield client
            return
        with (
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,
                local_directory=scratch,
                silence_logs=50,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise ValueError(
            "--executor dask must have dask.distributed, but it is not installed. pip install 'vpop[scale]'."
        ) from None
    return distributed
