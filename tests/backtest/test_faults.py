"""A backtest and a recording through faults: disks that fill, nodes that vanish, damaged files.

Everything here is real: a file system with too little room, a connection that is cut, bytes that
are flipped in files.
"""

import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
from pytest_httpserver import HTTPServer

from src.backtest import score
from src.backtest.__main__ import main
from src.chain.recording.format import find_parts
from src.chain.recording.receipts_root import receipts_root
from src.datasets.store import is_store, open_store
from src.history import record
from src.history.__main__ import main as import_main
from tests.backtest.data import Transaction, hostile_history, write_dataset, write_etl
from tests.backtest.runs import content_of, run
from tests.chain.recording.blocks import make_block, make_log
from tests.chain.recording.node import Node, recorded_blocks
from tests.history.imports import rows_of
from tests.support.waiting import wait_until

BLOCKS = 40
SLICES = ("--slice-transfers", "60")


@pytest.fixture(scope="module")
def history() -> list[Transaction]:
    return hostile_history(seed=3)


@pytest.fixture(scope="module")
def etl(tmp_path_factory: pytest.TempPathFactory, history: list[Transaction]) -> Path:
    folder = tmp_path_factory.mktemp("etl")
    write_etl(folder, history)
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, etl: Path) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(etl, out, *SLICES) == 0
    return content_of(out)


# A disk that fills


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Callable[[int], None]]:
    """A file system of this size; what it gives changes the size."""
    folder.mkdir()
    size = f"size={kilobytes}k"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems can be mounted by root alone")

    def resize(kilobytes: int) -> None:
        change = ["mount", "-o", f"remount,size={kilobytes}k", str(folder)]
        subprocess.run(change, check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("kilobytes", [4, 200])
def test_a_full_disk_ends_a_run_which_resumes_when_there_is_room(
    tmp_path: Path, etl: Path, expected: dict[str, bytes], kilobytes: int, capfd
) -> None:
    with small_disk(tmp_path / "disk", kilobytes) as resize:
        out = tmp_path / "disk" / "out"
        assert run(etl, out, *SLICES) == 1
        said = capfd.readouterr().err
        assert "No space left on device; the same command resumes" in said
        assert "Traceback" not in said
        assert not (out / "summary.json").exists()
        for path in out.rglob("day=*/*.parquet"):
            pq.ParquetFile(path).read()  # whatever has its name is whole
        resize(100_000)
        assert run(etl, out, *SLICES) == 0
        assert content_of(out) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_is_full_during_the_import_is_an_error_that_gives_the_room_back(
    tmp_path: Path, history: list[Transaction], capfd
) -> None:
    write_dataset(tmp_path / "data", history)
    with small_disk(tmp_path / "disk", 60) as resize:
        out = tmp_path / "disk" / "out"
        assert run(tmp_path / "data", out, *SLICES) == 1
        assert "No space left on device; the same command resumes" in capfd.readouterr().err
        resize(100_000)
        assert run(tmp_path / "data", out, *SLICES) == 0
        assert run(tmp_path / "data", tmp_path / "other", *SLICES) == 0
        assert content_of(out) == content_of(tmp_path / "other")


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("full", ["temporary files", "output"])
def test_scoring_names_the_disk_that_is_full(
    tmp_path: Path, history: list[Transaction], full: str, capfd, monkeypatch
) -> None:
    write_dataset(tmp_path / "data", history)
    disk = tmp_path / "disk"
    with small_disk(disk, 4):
        if full == "temporary files":
            monkeypatch.setattr("tempfile.tempdir", str(disk))
        out = (disk if full == "output" else tmp_path) / "scores.csv"
        tables = (f"--{t}={tmp_path / 'data' / t}.parquet" for t in ("transactions", "transfers"))
        assert score.main([*tables, "--out", str(out)]) == 1
        assert re.search(f"{disk}/.*: No space left on device", capfd.readouterr().err)
        assert not out.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_ends_a_recording_which_resumes_when_there_is_room(
    tmp_path: Path, long_node: Node, capfd
) -> None:
    arguments = blocks_of(long_node.url)
    assert record.main([*arguments, "--out", str(tmp_path / "other")]) == 0
    with small_disk(tmp_path / "disk", 160) as resize:
        out = tmp_path / "disk" / "recording"
        assert record.main([*arguments, "--out", str(out)]) == 1
        assert "No space left on device; the same command resumes" in capfd.readouterr().err
        assert 0 < len(find_parts(out)) < len(find_parts(tmp_path / "other"))
        assert not list(out.glob(".unfinished*"))
        resize(100_000)
        assert record.main([*arguments, "--out", str(out)]) == 0
        assert recorded_blocks(out) == recorded_blocks(tmp_path / "other")


# A node that vanishes


@pytest.fixture
def long_node(httpserver: HTTPServer) -> Node:
    """A node of some blocks that verify."""
    node = Node(httpserver)
    node.answers["eth_blockNumber"] = hex(BLOCKS)
    draw = random.Random(4)
    for number in range(1, BLOCKS + 1):
        logs = [make_log(index, data=f"0x{draw.getrandbits(255):064x}") for index in range(9)]
        made = make_block(number, logs)
        made.block["receiptsRoot"] = receipts_root(made.receipts)
        node.blocks[hex(number)] = made
    return node


def blocks_of(url: str) -> list[str]:
    fast = ["--requests-per-second", "5000", "--blocks-per-part", "4"]
    return ["--from-block", "1", "--to-block", str(BLOCKS), "--url", url, *fast]


class Line:
    """A connection to a server that can be cut: refused, or swallowed without an answer."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]
        self.url = parts._replace(netloc=f"127.0.0.1:{self.port}").geturl()
        self._open: list[socket.socket] = []
        self._silent = False

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), reuse_port=False)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                if not self._silent:
                    target.sendall(content)

    def cut(self, *, silent: bool) -> None:
        """Cut it: nobody answers at all, or connections are refused."""
        if silent:
            self._silent = True
            return
        # Only `shutdown` wakes the thread that accepts, which else holds the port.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()

    def mend(self) -> None:
        """As before."""
        if self._silent:
            self._silent = False
            self._hang_up()
        else:
            self._listener = self._listen(self.port)

    def _hang_up(self) -> None:
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()


@pytest.fixture
def line(long_node: Node) -> Iterator[Line]:
    line = Line(long_node.url)
    yield line
    line.cut(silent=False)


def vanishing(
    node: Node,
    line: Line,
    *,
    silent: bool,
    after: Callable[[], object] = lambda: True,
    until: Callable[[], object] | None,
) -> threading.Event:
    """Have the line be cut in the middle of the blocks; the event is set when it is mended.

    Args:
        node: at the other end.
        line: to be cut.
        silent: how, see `Line.cut`.
        after: what has to have happened before.
        until: what has to happen for it to be mended; None to leave it as it is.
    """
    reached, mended = threading.Event(), threading.Event()
    cut = threading.Event()
    answer = node.blocks.__getitem__

    def cut_and_mend() -> None:
        reached.wait()
        wait_until(after)
        line.cut(silent=silent)
        cut.set()
        if until is not None:
            wait_until(until)
            line.mend()
            mended.set()

    class Blocks(dict[str, object]):
        def __getitem__(self, number: str) -> object:
            if number == hex(20):
                reached.set()
                cut.wait()
            return answer(number)

    threading.Thread(target=cut_and_mend, daemon=True).start()
    node.blocks = Blocks(node.blocks)
    return mended


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "is silent"])
def test_a_node_that_vanishes_for_a_while_is_waited_for(
    tmp_path: Path, long_node: Node, line: Line, silent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    mended = vanishing(long_node, line, silent=silent, until=lambda: "trying again" in caplog.text)
    arguments = [*blocks_of(line.url), "--timeout", "3"]
    assert record.main([*arguments, "--out", str(tmp_path / "away")]) == 0
    assert mended.is_set()
    direct = blocks_of(long_node.url)
    assert record.main([*direct, "--out", str(tmp_path / "direct")]) == 0
    assert recorded_blocks(tmp_path / "away") == recorded_blocks(tmp_path / "direct")


def test_a_node_that_vanishes_during_a_backtest_costs_nothing_but_time(
    tmp_path: Path, long_node: Node, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def backtest(url: str, name: str) -> dict[str, bytes]:
        blocks = ["--from-block", "1", "--to-block", str(BLOCKS), "--url", url]
        assert main([*blocks, "--out", str(tmp_path / name / "out")]) == 0
        return content_of(tmp_path / name / "out")

    mended = vanishing(long_node, line, silent=False, until=lambda: "trying again" in caplog.text)
    away = backtest(line.url, "away")
    assert mended.is_set()
    direct = backtest(long_node.url, "direct")
    assert away == direct


def test_a_node_that_stays_away_ends_a_recording_that_the_same_command_finishes(
    tmp_path: Path, long_node: Node, line: Line, capfd
) -> None:
    out = tmp_path / "out"
    vanishing(
        long_node, line, silent=False, after=lambda: out.is_dir() and find_parts(out), until=None
    )
    arguments = [*blocks_of(line.url), "--out", str(out)]
    assert record.main([*arguments, "--patience", "1"]) == 1
    assert "the same command resumes" in capfd.readouterr().err
    parts = find_parts(out)
    assert 0 < len(parts) < 10
    line.mend()
    asked = len(long_node.asked)
    assert record.main([*arguments, "--patience", "1"]) == 0
    assert len(recorded_blocks(out)) == BLOCKS
    again = long_node.asked[asked:].count("eth_getBlockByNumber")
    assert again == BLOCKS - sum(part.last - part.first + 1 for part in parts)


# Damaged and doubled files


def pages_of(path: Path, columns: set[str]) -> list[int]:
    """Where in a parquet file the pages of these columns are."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    found: list[int] = []
    for chunk in map(group.column, range(group.num_columns)):
        if chunk.path_in_schema in columns:
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            found += range(start, start + chunk.total_compressed_size)
    return found


READ = {
    "transactions": {"tx_hash", "block_number", "block_timestamp", "from_address", "nonce"},
    "logs": {"tx_hash", "block_number", "log_index", "address", "topic1", "topic2", "data"},
}


@pytest.mark.parametrize("name", READ)
def test_a_flipped_bit_in_a_recording_is_never_taken_for_data(
    tmp_path: Path, long_node: Node, capfd, name: str
) -> None:
    data = tmp_path / "data"
    assert record.main([*blocks_of(long_node.url), "--out", str(data)]) == 0
    whole = rows_of(open_store(data))
    path = find_parts(data)[3].path / f"{name}.parquet"
    content = path.read_bytes()
    draw, places = random.Random(6), pages_of(path, READ[name])
    refused = 0
    for turn in range(10):
        damaged = bytearray(content)
        damaged[draw.choice(places)] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        capfd.readouterr()
        store = tmp_path / f"store-{turn}"
        if import_main(["--data", str(data), "--out", str(store)]) == 0:  # a page's statistics
            assert rows_of(open_store(store)) == whole
        else:
            refused += 1
            said = capfd.readouterr().err
            assert path.name in said
            assert "Traceback" not in said
            assert not is_store(store)
    assert refused >= 3
