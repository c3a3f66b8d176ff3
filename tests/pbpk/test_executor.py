"""Executors: every task once, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pbpk import executor

TWO = [0, 1]


def square(task: int) -> int:
    return task * task


def die_once(folder: Path, task: int) -> int:
    mark = folder / str(task)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def die(task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def fail(task: int) -> int:
    raise OSError(f"task {task} must be writable")


def test_one_worker_works_here() -> None:
    assert list(executor.run(lambda task: (task, os.getpid()), [3])) == [(3, os.getpid())]


def test_several_workers_do_every_task_even_if_one_is_killed_at_each(tmp_path: Path) -> None:
    assert sorted(executor.run(partial(die_once, tmp_path), TWO, workers=2)) == TWO


def threads(task: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def test_each_worker_computes_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert list(executor.run(threads, TWO, workers=2)) == ["1", "1"]
    assert "OMP_NUM_THREADS" not in os.environ


def test_tasks_that_kill_every_worker_are_given_up() -> None:
    with pytest.raises(OSError, match="workers must live, but 3 in a row died"):
        list(executor.run(die, TWO, workers=2))


def test_an_error_of_a_worker_is_the_caller_s() -> None:
    with pytest.raises(OSError, match=r"task \d must be writable"):
        list(executor.run(fail, TWO, workers=2))


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """The workers write their ids, then sleep for a minute; the parent is killed."""
    script = tmp_path / "driver.py"
    script.write_text(
        "import os, time, pathlib\n"
        "from pbpk import executor\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "def work(task):\n    (folder / f'{task}.pid').write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n    list(executor.run(work, [0, 1], workers=2))\n"
    )
    driver = subprocess.Popen([sys.executable, str(script)], cwd=Path(__file__).parents[2])
    files = [tmp_path / f"{task}.pid" for task in TWO]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(alive(int(file.read_text())) for file in files))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("locl", 1, None), "--executor must be one of local, dask, but is 'locl'. Did you mean 'local'"),
        (("local", 0, None), "--workers must be at least 1, but is 0"),
        (("local", 1, "tcp://there:8786"), "--scheduler must come with --executor dask"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError) as found:
        executor.check(*arguments)
    assert words in str(found.value)


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(executor, "_PATIENCE", 1)
    with pytest.raises(OSError, match=r"none answers at 'tcp://127\.0\.0\.1:9'"):
        list(executor.run(square, TWO, "dask", 1, "tcp://127.0.0.1:9"))


def test_without_dask_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'vpop\[scale\]'"):
        executor.check("dask", 1, None)
