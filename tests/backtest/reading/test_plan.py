"""How a history is cut into slices."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from src.backtest.reading.layouts import TableFiles
from src.backtest.reading.plan import BlockIndex, common_breaks, cut_blocks, index_blocks


def index_of(folder: Path, *files: list[int], row_group_size: int = 1_000_000) -> BlockIndex:
    paths = []
    folder.mkdir()
    for number, blocks in enumerate(files):
        paths.append(folder / f"{number}.parquet")
        table = pa.table({"block": pa.array(blocks, pa.int64())})
        pq.write_table(table, paths[-1], row_group_size=row_group_size)
    return index_blocks(TableFiles("transactions", tuple(paths), {"block_number": "block"}))


def test_the_rows_of_blocks_are_found_whatever_batches_they_are_read_in(tmp_path):
    blocks = np.repeat(np.arange(40), 5_000)  # a batch ends within a block
    index = index_of(tmp_path / "x", blocks.tolist(), row_group_size=130_000)
    assert index.ordered
    assert index.rows == len(blocks)
    assert [values.tolist() for values in index.counts()] == [list(range(40)), [5_000] * 40]
    spans = [(span.row_group, span.start, span.stop) for span in index.spans(25, 26)]
    assert spans == [(0, 125_000, 130_000), (1, 0, 5_000)]


def test_blocks_out_of_order_are_seen(tmp_path):
    assert not index_of(tmp_path / "a", [1, 3, 2]).ordered
    assert not index_of(tmp_path / "b", [1, 3], [2, 4]).ordered
    assert index_of(tmp_path / "c", [2, 4], [1, 2]).ordered


def test_it_is_good_to_cut_where_row_groups_of_all_tables_end(tmp_path):
    one = index_of(tmp_path / "one", [1, 1, 4], [5, 5, 9], [9, 9, 10], [12])
    two = index_of(tmp_path / "two", [3, 4], [6, 11], [12, 13])
    # 9 stands in two files of the first table; 11 is read with 6, so 10 is no place to cut.
    assert common_breaks([one]).tolist() == [1, 5, 12]
    assert common_breaks([one, two]).tolist() == [1, 5, 12]
    assert common_breaks([one, index_of(tmp_path / "three", [4, 5])]).tolist() == [1, 12]


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=60),
    st.integers(1, 300),
    st.lists(st.integers(-5, 70), max_size=6, unique=True),
)
def test_slices_are_ranges_of_whole_blocks_one_after_another(rows, slice_rows, breaks):
    blocks = np.arange(len(rows), dtype=np.int64)
    counts = [(blocks, np.array(rows, np.int64))]
    ranges = cut_blocks(counts, slice_rows, 0, 1_000, np.array(sorted(breaks), np.int64))
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(rows) - 1
    for (start, end), (following, _) in itertools.pairwise(ranges):
        assert start <= end == following - 1


def test_cuts_move_to_good_places_that_are_near():
    counts = [(np.arange(100, dtype=np.int64), np.full(100, 10, np.int64))]
    plain = cut_blocks(counts, 250, 0, 99)
    assert plain == [(0, 24), (25, 49), (50, 74), (75, 99)]
    moved = cut_blocks(counts, 250, 0, 99, np.array([30, 62]))
    assert moved == [(0, 29), (30, 49), (50, 74), (75, 99)]  # 62 is as far from 50 as from 75
