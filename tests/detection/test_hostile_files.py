"""What fuzzing found in files that somebody damaged or swapped, held from now on."""

import io
import json
from pathlib import Path

import dill
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.chain.facts import TokenInfo
from src.chain.lookups.store import FILE_NAME, FactStore
from src.chain.recording.format import MANIFEST, Recording, RecordingError, read_table
from src.detection.bundle_files import manifest_path
from src.detection.errors import ModelMalformed
from src.detection.forest.forest_file import read_forest
from src.detection.forest.manifest import read_manifest
from src.detection.npz import read_arrays
from src.detection.trees.trees import Trees
from tests.support.forests import fitted, training_rows

TOKEN = "0x" + "77" * 20


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.encode("utf-16-le"),
        lambda text: b"\x8c" + text.encode(),
        lambda text: b"[" * 20_000,
        lambda text: b'{"a":' * 20_000,
        lambda text: text.replace('"model_version": 1650000000', '"model_version": 1e999').encode(),
        lambda text: json.dumps(json.loads(text) | {"anomaly_threshold": 10**400}).encode(),
        lambda text: json.dumps(json.loads(text) | {"training": {"share": float("nan")}}).encode(),
    ],
    ids=[
        "utf-16",
        "no text",
        "deep list",
        "deep object",
        "infinite version",
        "huge threshold",
        "NaN for people",
    ],
)
def test_a_manifest_of_any_bytes_is_refused_as_malformed(bundle_path, tmp_path, damage):
    path = tmp_path / "model.pkl"
    text = manifest_path(bundle_path).read_text()
    manifest_path(path).write_bytes(damage(text))
    with pytest.raises(ModelMalformed, match=r"model\.manifest\.json"):
        read_manifest(path)


def test_a_long_mistake_in_a_manifest_is_cut(bundle_path, tmp_path):
    path = tmp_path / "model.pkl"
    content = json.loads(manifest_path(bundle_path).read_text()) | {"format": "x" * 20_000}
    manifest_path(path).write_text(json.dumps(content))
    with pytest.raises(ModelMalformed) as refused:
        read_manifest(path)
    assert len(str(refused.value)) < 400


def test_a_cache_whose_schema_is_no_text_costs_a_warning_and_memory_goes_on(tmp_path, caplog):
    store = FactStore(tmp_path, 1)
    store.put_token_infos({TOKEN: TokenInfo("Name", "SYM", 18)})
    store.close()
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    assert b"tabletokentoken" in content
    content = content.replace(b"tabletokentoken", b"table\xf0oken\xf0oken")
    path.write_bytes(content.replace(b"CREATE TABLE token", b"CREATE TABXE token"))
    store = FactStore(tmp_path, 1)
    assert store.token_info(TOKEN) is None
    store.close()
    assert len(caplog.records) == 1
    assert "delete it" in caplog.text


def test_a_parquet_file_with_a_name_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "tokens.parquet"
    pq.write_table(pa.table({"token_address": [TOKEN]}), path)
    path.write_bytes(path.read_bytes().replace(b"token_address", b"token\xaf\xf0ddress"))
    with pytest.raises(RecordingError):
        read_table(path)


def test_recorded_columns_of_another_type_are_refused(tmp_path):
    (tmp_path / MANIFEST).write_text('{"format": "recorded-blocks", "version": 1, "chain_id": 1}')
    part = tmp_path / "blocks-000000000001-000000000001"
    part.mkdir()
    names = ("token_address", "name", "symbol", "decimals")
    columns = dict.fromkeys(names, pa.array([TOKEN], pa.string()))
    table = pa.table(columns | {"token_address": pa.array([b"\xff"], pa.binary())})
    pq.write_table(table, part / "tokens.parquet")
    with pytest.raises(RecordingError, match="tokens"):
        Recording(tmp_path).tokens()


def test_recorded_text_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "tokens.parquet"
    pq.write_table(pa.table({"token_address": [TOKEN]}), path, use_dictionary=False,
                   compression="none", write_statistics=False)  # fmt: skip
    path.write_bytes(path.read_bytes().replace(TOKEN.encode(), b"\xaf\xf0" + TOKEN[2:].encode()))
    with pytest.raises(RecordingError, match=r"UTF-?8"):
        read_table(path)


@pytest.mark.parametrize(
    "content", ["[" * 20_000, '{"format": "recorded-blocks", "version": 1, "chain_id": 1e999}']
)
def test_a_recording_with_an_impossible_manifest_is_refused(tmp_path: Path, content: str):
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(RecordingError):
        Recording(tmp_path)


@pytest.mark.parametrize("opcode", [b"r\xff\xff\xff\x0f", b"q\x01", b"p268435455\n"])
def test_a_model_file_cannot_make_the_unpickler_fill_memory(opcode):
    """Ten bytes of LONG_BINPUT used to cost 4 GB and seven seconds."""
    with pytest.raises(ModelMalformed, match="PUT"):
        read_forest(b"\x80\x04N" + opcode + b".")


def test_a_model_file_cannot_hold_the_unpickler_up_with_the_hash_of_a_key():
    """The hash of sixty such pairs used to take years, that of a deep tuple to end the process."""
    key: tuple[object, ...] = (1,)
    for _ in range(20):
        key = (key, key)
    with pytest.raises(ModelMalformed, match="refused"):
        read_forest(dill.dumps({key: None}))
    with pytest.raises(ModelMalformed, match="key that is not a text"):
        read_forest(dill.dumps({((1,),): None}))


def test_a_model_file_cannot_copy_the_bytes_of_one_array_into_many():
    content = bytes(300)
    with pytest.raises(ModelMalformed, match="twice"):
        read_forest(dill.dumps([content, content]))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("estimators_", lambda forest: forest.estimators_ * 50, "more nodes than the file"),
        ("_max_samples", lambda _: float("inf"), "OverflowError"),
        ("_max_samples", lambda _: 10**400, "OverflowError"),
        (
            "estimators_features_",
            lambda forest: [one.tolist() for one in forest.estimators_features_],
            "not made of arrays",
        ),
        (
            "estimators_features_",
            lambda forest: [one * np.nan for one in forest.estimators_features_],
            "input that does not exist",
        ),
    ],
)
def test_a_forest_whose_attributes_are_absurd_is_refused(name, value, reason):
    forest = fitted(training_rows(n=300), n_estimators=2, max_samples=256)
    setattr(forest, name, value(forest))
    with pytest.raises(ModelMalformed, match=reason):
        read_forest(dill.dumps(forest))


def _columns(n_nodes):
    """Of a tree that is a chain: each second node is a split, the others are leaves."""
    split = np.arange(n_nodes) % 2 == 0
    split[-1] = False
    return {
        "left": np.where(split, np.arange(n_nodes) + 1, -1),
        "right": np.where(split, np.arange(n_nodes) + 2, -1),
        "feature": np.zeros(n_nodes, dtype=np.int64),
        "threshold": np.zeros(n_nodes),
        "value": np.zeros(n_nodes),
    }


def test_offsets_whose_differences_overflow_are_refused():
    """They used to make numpy write outside its memory."""
    offsets = np.array([0, 2**62, -(2**63), -(2**62), 1])
    with pytest.raises(ModelMalformed, match="offsets"):
        Trees.from_columns(1, offsets=offsets, **_columns(1))


def test_a_tree_so_deep_that_its_explanation_takes_hours_is_refused():
    assert Trees.from_columns(1, offsets=np.array([0, 1999]), **_columns(1999)).n_trees == 1
    with pytest.raises(ModelMalformed, match="deeper than 1000"):
        Trees.from_columns(1, offsets=np.array([0, 2001]), **_columns(2001))


def test_a_recorded_table_that_unpacks_to_no_end_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("src.files._MIN_BOMB_BYTES", 2**20)
    column = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 10**6), ["0x"])
    pq.write_table(pa.table({"tx_hash": column}), tmp_path / "logs.parquet")
    with pytest.raises(RecordingError, match=r"logs\.parquet: .* more than 100 times its"):
        read_table(tmp_path / "logs.parquet")


def test_an_npz_file_that_unpacks_to_no_end_is_not_unpacked(monkeypatch):
    file = io.BytesIO()
    np.savez_compressed(file, value=np.zeros(2**20))
    assert read_arrays(file.getvalue())["value"].size == 2**20
    monkeypatch.setattr("src.detection.npz._MAX_UNPACKED_BYTES", 2**20)
    with pytest.raises(ModelMalformed, match=r"not an \.npz file"):
        read_arrays(file.getvalue())
