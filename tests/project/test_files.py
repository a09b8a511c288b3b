"""Whole files appear complete or not at all; what is no regular file is written to, not over."""

import errno
import gzip
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from src.files import check_output_file, read_gzip, reason, whole_file, write_file

ROOT = Path(__file__).resolve().parents[2]
NULL, FULL = os.makedev(1, 3), os.makedev(1, 7)


def test_a_file_is_written_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "report.html"
    write_file(path, b"first")
    write_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_gzip_file_is_unpacked_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv.gz"
    path.write_bytes(gzip.compress(b"x" * 1000))
    assert read_gzip(path, 1000) == b"x" * 1000
    with pytest.raises(OSError, match="Unpacks to more than 999 bytes"):
        read_gzip(path, 999)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(OSError, match="Is damaged"):
        read_gzip(path, 1000)


def test_a_new_file_has_the_permissions_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_file(tmp_path / "private", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_a_file_keeps_its_permissions_and_a_link_its_target(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_file(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_pipe_gets_the_content_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    check_output_file(pipe)
    write_file(pipe, b"x" * 100_000)
    reader.join()
    assert received == [b"x" * 100_000]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def device(path: Path, number: int) -> Path:
    """A device of our own making, so that a failing test breaks none of the machine's."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, number)
        path.open("wb").close()
    except OSError as error:
        pytest.skip(f"this user or file system allows no devices: {error.strerror}")
    return path


def test_a_device_gets_the_content_and_stays_a_device(tmp_path: Path) -> None:
    null = device(tmp_path / "null", NULL)
    write_file(null, b"content")
    assert stat.S_ISCHR(null.lstat().st_mode)
    assert null.lstat().st_rdev == NULL


def test_a_device_that_refuses_is_named(tmp_path: Path) -> None:
    full = device(tmp_path / "full", FULL)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_file(full, b"content")
    assert caught.value.filename == str(full)


def test_a_device_cannot_be_written_by_way_of_a_second_name(tmp_path: Path) -> None:
    null = device(tmp_path / "null", NULL)
    with pytest.raises(OSError, match="not a regular file"), whole_file(null):
        pass
    assert stat.S_ISCHR(null.lstat().st_mode)


def test_a_folder_is_refused_by_its_name(tmp_path: Path) -> None:
    for write in (lambda: write_file(tmp_path, b""), lambda: check_output_file(tmp_path)):
        with pytest.raises(IsADirectoryError, match="Is a folder, not a file") as caught:
            write()
        assert caught.value.filename == str(tmp_path)


def test_a_path_below_a_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "below"
    for write in (lambda: write_file(path, b""), lambda: check_output_file(path)):
        with pytest.raises(OSError, match=r"a folder|a directory|exists") as caught:
            write()
        assert caught.value.filename == str(path)


def test_a_failed_write_leaves_the_old_file_and_names_the_path_that_was_given(
    tmp_path: Path,
) -> None:
    path = tmp_path / "report.html"
    write_file(path, b"old")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_file(path, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("where", ["file", "pipe"])
def test_standard_output_can_be_named_and_keeps_what_else_is_printed(
    tmp_path: Path, where: str
) -> None:
    code = """
from pathlib import Path
from src.files import write_file
print("before")
write_file(Path("/dev/stdout"), b"content\\n")
print("after")
"""
    command = [sys.executable, "-c", code]
    if where == "pipe":
        output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    else:
        with (tmp_path / "output").open("wb") as file:
            subprocess.run(command, cwd=ROOT, check=True, stdout=file)
        output = (tmp_path / "output").read_bytes()
    assert output == b"before\ncontent\nafter\n"


def test_reasons_are_readable(tmp_path: Path) -> None:
    assert reason(PermissionError(errno.EACCES, "Permission denied", "/x")) == "Permission denied"
    with pytest.raises(UnicodeDecodeError) as not_text:
        b"\xff".decode()
    assert reason(not_text.value) == "not UTF-8 text"
    assert reason(KeyError("sha256")) == "'sha256' is missing"
    assert reason(ValueError("two\nlines")) == "two lines"
