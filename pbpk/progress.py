"""A progress bar for people: on a terminal only, on stderr, gone when done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Gives a function of (done, total) that moves the bar."""
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {what}", disable=None, leave=False) as meter:

        def progress(done: int, _total: int) -> None:
            meter.update(done - meter.n)

        yield progress
