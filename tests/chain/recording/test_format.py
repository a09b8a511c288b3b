"""A recording on disk is whole, or says what is wrong with it."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from src.chain.recording.format import (
    Recording,
    RecordingError,
    RecordingWriter,
    TokenAnswers,
    find_parts,
    open_writer,
)
from src.chain.recording.rows import (
    BlockRows,
)
from tests.chain.recording.blocks import TOKEN, rows_of, write_blocks
from tests.support.waiting import PATIENCE


def test_a_part_is_seen_only_when_it_is_whole(tmp_path: Path) -> None:
    with open_writer(tmp_path, 1) as writer:
        writer.add(rows_of(10))
        assert find_parts(tmp_path) == []
        writer.write()
        assert [(part.first, part.last) for part in find_parts(tmp_path)] == [(10, 10)]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    left_over = tmp_path / ".unfinished-blocks-000000000011-000000000011"
    left_over.mkdir()
    (left_over / "blocks.parquet").write_bytes(b"PAR1 half")
    write_blocks(tmp_path, 11)
    assert not left_over.exists()
    assert Recording(tmp_path).blocks(["block_number"])["block_number"].to_pylist() == [10, 11]


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    with (
        open_writer(tmp_path, 1),
        pytest.raises(RecordingError, match="another process"),
        open_writer(tmp_path, 1),
    ):
        pass


def test_a_writer_that_failed_leaves_no_lock(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        write_blocks(tmp_path, 10, 12)
    write_blocks(tmp_path, 10)


@pytest.mark.integration
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    # The kernel refuses to write files over 4 kB, in a process of its own.
    script = f"""
import resource, signal, sys
from pathlib import Path
from src.chain.recording.format import open_writer
from tests.chain.recording.blocks import rows_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_writer(Path({str(tmp_path)!r}), 1) as writer:
    for number in range(1, 200):
        writer.add(rows_of(number))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        writer.write()
    except OSError as error:
        sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=PATIENCE)
    assert done.returncode == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "recording.json"]


def test_gaps_are_what_no_part_covers(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10, 11)
    write_blocks(tmp_path, 20)
    with open_writer(tmp_path, 1) as writer:
        assert writer.missing(5, 25) == [range(5, 10), range(12, 20), range(21, 26)]
        assert writer.missing(10, 11) == []
        assert writer.missing(0, 9) == [range(10)]
        assert writer.missing(11, 12) == [range(12, 13)]


def test_a_block_of_another_fork_is_refused_after_before_and_between(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    write_blocks(tmp_path, 12)

    def add(*rows: BlockRows) -> None:
        with open_writer(tmp_path, 1) as writer:
            for row in rows:
                writer.add(row)

    with pytest.raises(RecordingError, match="reorganised"):
        add(rows_of(11, fork=1, parent_fork=1))
    with pytest.raises(RecordingError, match="reorganised"):
        add(rows_of(11, fork=1))
    with pytest.raises(RecordingError, match="reorganised"):
        add(rows_of(20), rows_of(21, parent_fork=1))
    with pytest.raises(RecordingError, match="out of order"):
        add(rows_of(30), rows_of(32))
    add(rows_of(11))


def test_another_chain_is_refused(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    with pytest.raises(RecordingError, match="recorded on chain 1"), open_writer(tmp_path, 56):
        pass


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RecordingError, match="not empty"), open_writer(tmp_path, 1):
        pass
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["thesis.tex"]


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "{}", '{"format":"recorded-blocks","version":2,"chain_id":1}', '{"chain_id":[]}'],
)
def test_a_folder_that_is_no_recording_is_named(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "recording.json").write_text(manifest)
    with pytest.raises(RecordingError, match=tmp_path.name):
        Recording(tmp_path)


def test_overlapping_parts_are_refused(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10, 11)
    (tmp_path / "blocks-000000000011-000000000012").mkdir()
    with pytest.raises(RecordingError, match="overlap"):
        Recording(tmp_path)


def test_a_truncated_part_is_named(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    file = find_parts(tmp_path)[0].path / "logs.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    recording = Recording(tmp_path)
    with pytest.raises(RecordingError, match=r"logs\.parquet"):
        recording.tables(recording.parts[0])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    file = find_parts(tmp_path)[0].path / "transactions.parquet"
    pq.write_table(pq.read_table(file).drop_columns("nonce"), file)
    with pytest.raises(RecordingError, match="nonce"):
        Recording(tmp_path).transactions(["tx_hash", "nonce"])


def test_a_token_is_asked_for_once(tmp_path: Path) -> None:
    def pending(writer: RecordingWriter, number: int) -> list[str]:
        writer.add(rows_of(number))
        return writer.unknown_tokens()

    with open_writer(tmp_path, 1) as writer:
        assert pending(writer, 10) == [TOKEN]
        writer.write([TokenAnswers(TOKEN, "0x", None, "0x12")])
        assert pending(writer, 11) == []
        writer.write()
    with open_writer(tmp_path, 1) as writer:
        assert pending(writer, 12) == []
    assert Recording(tmp_path).tokens() == {TOKEN: TokenAnswers(TOKEN, "0x", None, "0x12")}


def test_the_manifest_says_what_the_folder_is(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    manifest = json.loads((tmp_path / "recording.json").read_text())
    assert manifest == {"format": "recorded-blocks", "version": 1, "chain_id": 1}
