"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "permission is denied; choose a folder that you may write to",
    errno.EPERM: "permission is denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EISDIR: "the path is a folder; give a file name",
    errno.EEXIST: "a file of that name is in the way; choose another folder",
}


def cannot_write(path: Path, error: OSError) -> OSError:
    """Returns ``error`` in plain words: which path could not be written, why, and what to do."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return OSError(f"{path} must be writable, but {reason}.")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Makes the folder ``path`` with its parents, and checks that it can be written to.

    Raises:
        OSError: If it cannot, with the reason and a remedy.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise cannot_write(path, error) from None
    return path


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` that takes its name only once the block has succeeded.

    A block that raises, or a machine that stops, leaves the old file or none, never half of a new one.

    Raises:
        OSError: If the file cannot be written, with the reason and a remedy.

    >>> folder = Path(tempfile.mkdtemp())
    >>> with write_whole(folder / "a.txt") as partial:
    ...     _ = partial.write_text("whole")
    >>> (folder / "a.txt").read_text(), len(list(folder.iterdir()))
    ('whole', 1)
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        partial.unlink(missing_ok=True)
