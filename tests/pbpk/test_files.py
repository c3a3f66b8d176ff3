import errno
import os
import subprocess
import sys
import textwrap

import pytest

from pbpk.files import check_folder, check_writable, write_folder, write_whole


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("old")
    with pytest.raises(RuntimeError), write_whole(file) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_a_block_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError), write_folder(tmp_path / "new") as partial:
        (partial / "a.csv").write_text("half")
        raise RuntimeError
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(OSError, match="the disk is full"), write_folder(tmp_path / "new") as partial:
        (partial / "a.csv").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not (tmp_path / "new").exists()


def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must name a folder, but new.csv is the name of a file"):
        check_folder(tmp_path / "new.csv")
    (tmp_path / "old.csv").mkdir()
    check_folder(tmp_path / "old.csv")


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="is a file, not a folder"):
        check_folder(tmp_path / "runs" / "mine")


def test_a_missing_parent_is_named(tmp_path):
    with pytest.raises(OSError, match="Make it first"):
        check_writable(tmp_path / "none" / "a.csv")


@pytest.mark.skipif(os.name != "posix", reason="needs a file-size limit")
def test_a_disk_that_fills_while_writing_leaves_nothing(tmp_path):
    """A limit on the size of a file stands for a full disk: the write itself fails half-way."""
    script = f"""
        import resource, signal
        from pbpk.files import write_whole
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with write_whole({str(tmp_path / "a.csv")!r}) as partial:
            partial.write_text("x" * 100_000)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode != 0 and "must be writable" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with (
        pytest.raises(OSError, match="is a file, not a folder"),
        write_whole(tmp_path / "runs" / "a.csv") as partial,
    ):
        partial.write_text("x")
