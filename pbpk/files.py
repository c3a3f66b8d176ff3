"""Files: text that a user wrote is read, or refused in plain words; files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FILES = (".csv", ".parquet", ".html", ".json", ".toml", ".safetensors", ".png", ".xlsx")
_REASONS = {
    errno.EFBIG: "the file would be larger than allowed; raise the limit or choose another folder",
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "permission is denied; choose a folder that you may write to",
    errno.EPERM: "permission is denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EISDIR: "the path is a folder; give a file name",
    errno.ENOENT: "a folder on the way to it is not there; make it first",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EEXIST: "a file of that name is in the way; choose another folder",
}


def read_text(path: str | os.PathLike[str], argument: str) -> str:
    """Reads a text file that a user names.

    Arguments:
        path: The file.
        argument: What messages call it.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        ValueError: If it is not text in UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{argument} must be text in UTF-8, but {path} is not. Save it as UTF-8.") from None
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{argument} must be a file, but {path} is not there. Check the path."
        ) from None
    except IsADirectoryError:
        raise IsADirectoryError(
            f"{argument} must be a file, but {path} is a folder. Name a file in it."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{argument} must be readable, but {path} is not ({reason}). Check the path.") from None


def cannot_write(path: Path, error: OSError) -> OSError:
    """Returns ``error`` in plain words: which path could not be written, why, and what to do."""
    unexpected = f"{error.strerror or error}; choose another path"
    reason = _REASONS.get(error.errno or 0, unexpected)
    return OSError(f"{path} must be writable, but {reason}.")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raises, before any work is done, if the folder ``path`` cannot be made or written to.

    Raises:
        ValueError: If its name is a file's: the user takes the command for one that writes a file.
        OSError: With the reason and a remedy.
    """
    path = Path(path).absolute()
    if path.suffix.lower() in _FILES and not path.is_dir():
        raise ValueError(
            f"-o must name a folder, but {path.name} is the name of a file. Leave out {path.suffix}."
        )
    try:
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise cannot_write(path, error) from None


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises, before any work is done, if a file cannot be written at ``path``.

    Raises:
        OSError: With the reason and a remedy.
    """
    path = Path(path)
    try:
        in_a_folder, is_folder = path.parent.is_dir(), path.is_dir()
    except OSError as error:  # a name that is too long
        raise cannot_write(path, error) from None
    if not in_a_folder:
        raise OSError(f"{path} must lie in a folder, but {path.parent} is none. Make it first.")
    if is_folder:
        raise cannot_write(path, IsADirectoryError(errno.EISDIR, ""))
    check_folder(path.parent)


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
        with suppress(OSError):  # what stopped the writing is what the user must hear of
            partial.unlink(missing_ok=True)


@contextmanager
def write_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary folder whose files move into ``path`` only once the block has succeeded.

    A block that raises leaves ``path`` as it was. Files of the same name are replaced, others stay.

    Raises:
        OSError: If the folder cannot be written, with the reason and a remedy.

    >>> folder = Path(tempfile.mkdtemp()) / "new"
    >>> with write_folder(folder) as partial:
    ...     _ = (partial / "a.txt").write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    existed = path.is_dir()
    partial: Path | None = None
    try:
        path.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=path))
        yield partial
        for file in sorted(partial.iterdir()):
            file.replace(path / file.name)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        if not existed and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
