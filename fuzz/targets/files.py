"""Replaced or corrupt files, and invalid settings."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.data import Data
from fuzz.oracles import check_first_transaction, check_token_info, expect
from fuzz.target import Bench, Target

_ROOT = Path(__file__).resolve().parents[2]
_SECRET = "PLANTED-SECRET"


def _manifest(bench: Bench) -> Callable[[bytes], None]:
    from src.detection.errors import ModelError  # noqa: PLC0415
    from src.detection.forest.manifest import read_manifest  # noqa: PLC0415

    shipped = json.loads((_ROOT / "isolation_forest.manifest.json").read_text())
    for field, kept in (("score_quantiles", 4), ("golden_rows", 2), ("golden_scores", 2)):
        shipped[field] = shipped[field][:kept]
    shipped["token_amounts"] = dict(list(shipped["token_amounts"].items())[:2])
    shipped["training"] = {}
    path = bench.folder / "model.pkl"

    def one(content: bytes) -> None:
        path.with_suffix(".manifest.json").write_bytes(Data(content).json_bytes(shipped))
        try:
            manifest = read_manifest(path)
        except ModelError:
            bench.reached["refused"] += 1
            return
        manifest.to_json()  # refuses numbers that are not finite
        bench.reached["read"] += 1

    return one


def _forest(bench: Bench) -> Callable[[bytes], None]:
    import dill  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415

    from src.detection.errors import ModelMalformed  # noqa: PLC0415
    from src.detection.forest.forest_file import read_forest  # noqa: PLC0415

    rows = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    fitted = IsolationForest(n_estimators=3, max_samples=16, random_state=0).fit(rows)
    honest = dill.dumps(fitted, protocol=4)

    def one(content: bytes) -> None:
        data = Data(content)
        damaged = data.rest() if data.one_in(8) else data.damaged(honest)
        try:
            forest = read_forest(damaged)
        except ModelMalformed:
            bench.reached["refused"] += 1
            return
        bench.reached["read"] += 1
        if forest.trees.n_features == 3:
            scores = forest.score(rows)
            good = np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all()
            expect(bool(good), "non-finite", scores[:4])

    return one


def _supervised(bench: Bench) -> Callable[[bytes], None]:
    import io  # noqa: PLC0415
    import math  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    from src.detection.errors import InvalidInput, ModelMalformed  # noqa: PLC0415
    from src.detection.supervised.manifest import FraudManifest  # noqa: PLC0415
    from src.detection.supervised.model import SupervisedModel, read_pipeline  # noqa: PLC0415

    inputs = ("Amount", "Time")
    honest: dict[str, Any] = {
        "classifier": np.array("DecisionTree"),
        "impute": np.zeros(2),
        "mean": np.zeros(2),
        "scale": np.ones(2),
        "left": np.array([1, -1, 3, -1, -1]),
        "right": np.array([2, -1, 4, -1, -1]),
        "feature": np.array([0, -2, 1, -2, -2]),
        "threshold": np.array([0.5, -2.0, 0.25, -2.0, -2.0]),
        "fraud": np.array([0.5, 0.0, 0.5, 0.25, 1.0]),
        "offsets": np.array([0, 5]),
    }
    numbers = (0, 1, -1, 2, 5, 2**63 - 1, -(2**63), 1e308, float("nan"), float("inf"), 0.5)

    def arrays_of(data: Data) -> dict[str, Any]:
        arrays = {name: array.copy() for name, array in honest.items()}
        for _ in range(data.byte() % 4):
            name = data.pick(tuple(arrays))
            array = arrays[name]
            match data.byte() % 5:
                case 0:
                    arrays[name] = array.reshape(-1)[: data.byte() % 6]
                case 1:
                    kinds = ("U8", "f4", "i4") if array.dtype.kind in "fi" else ("U3", "S3")
                    arrays[name] = array.astype(data.pick(kinds))
                case 2:
                    arrays[name] = np.repeat(array, 1 + data.byte() % 3)
                case _ if array.dtype.kind in "fi" and array.ndim and array.size:
                    with np.errstate(all="ignore"):
                        value = np.array(data.pick(numbers), dtype="f8")
                        array[data.byte() % array.size] = value.astype(array.dtype)
        return arrays

    def one(content: bytes) -> None:
        data = Data(content)
        file = io.BytesIO()
        np.savez(file, **arrays_of(data))
        written = data.damaged(file.getvalue()) if data.one_in(4) else file.getvalue()
        try:
            pipeline = read_pipeline(written, len(inputs))
        except ModelMalformed:
            bench.reached["refused"] += 1
            return
        manifest = FraudManifest(
            1, "", "", "DecisionTree", "Class", inputs, 0.5, ((0.0, 0.0),), (0.0,)
        )  # fmt: skip
        row = data.altered({"Amount": 1.5, "Time": data.integer()})
        try:
            probability = SupervisedModel(manifest, pipeline).predict_proba(
                row if isinstance(row, dict) else {}
            )
        except InvalidInput:
            bench.reached["inputs refused"] += 1
            return
        expect(math.isfinite(probability) and 0 <= probability <= 1, "non-finite", probability)
        bench.reached["predicted"] += 1

    return one


def _settings(bench: Bench) -> Callable[[bytes], None]:
    from src.settings import SETTINGS, load_settings  # noqa: PLC0415
    from src.variables import SettingsError  # noqa: PLC0415

    url = f"https://user:{_SECRET}@node.example/{_SECRET}?key={_SECRET}"
    files: dict[str, Any] = {
        "secrets.json": {"ETHERSCAN_API_KEY": _SECRET, "apiKeys": {"ETHPLORER_API_KEY": _SECRET}},
        "forta.config.json": {"jsonRpcUrl": url},
    }

    def one(content: bytes) -> None:
        data = Data(content)
        environ = {
            data.pick(SETTINGS): data.text().replace("\0", "") + data.pick(("", _SECRET, url))
            for _ in range(data.byte() % 4)
        }
        for name, template in files.items():
            (bench.folder / name).write_bytes(data.json_bytes(template))
        try:
            settings = load_settings(
                environ, project_root=bench.folder, home=bench.folder, arguments=()
            )
        except SettingsError as error:
            expect(_SECRET not in str(error), "leak", error)
            bench.reached["refused"] += 1
            return
        shown = repr(settings)
        for field in dataclasses.fields(settings):  # a path is no secret, whatever it says
            value = getattr(settings, field.name)
            if isinstance(value, Path):
                shown = shown.replace(repr(value), "")
        expect(_SECRET not in shown, "leak", shown)
        bench.reached["read"] += 1

    return one


def _policy(bench: Bench) -> Callable[[bytes], None]:
    from src.detection.policy import PolicyError, parse_policy  # noqa: PLC0415

    shipped = "\n".join(
        line
        for line in (_ROOT / "policy.yaml").read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    )

    def one(content: bytes) -> None:
        data = Data(content)
        text = data.rest() if data.one_in(4) else data.damaged(shipped.encode())
        try:
            parse_policy(text.decode("utf-8", "replace"))
        except PolicyError as error:
            expect(str(error).isprintable(), "leak", repr(str(error)))
            bench.reached["refused"] += 1
            return
        bench.reached["read"] += 1

    return one


def _cache(bench: Bench) -> Callable[[bytes], None]:
    import logging  # noqa: PLC0415
    import time  # noqa: PLC0415

    from src.chain.facts import Deployment, FirstTransaction, TokenInfo  # noqa: PLC0415
    from src.chain.lookups.store import FILE_NAME, FactStore  # noqa: PLC0415

    logging.getLogger("src").setLevel(logging.CRITICAL)
    addresses = [f"0x{number:040x}" for number in range(20)]
    store = FactStore(bench.folder, 1)
    store.put_token_infos({address: TokenInfo("Name", "SYM", 18) for address in addresses})
    store.put_first_transactions({a: FirstTransaction(1_500_000_000, "node") for a in addresses})
    store.put_deployments({address: Deployment(7, 9) for address in addresses})
    store.close()
    path = bench.folder / FILE_NAME
    honest = path.read_bytes()

    def one(content: bytes) -> None:
        path.write_bytes(Data(content).damaged(honest))
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        store = FactStore(bench.folder, 1)
        for address in addresses[:3]:
            if (info := store.token_info(address)) is not None:
                check_token_info(info)
                bench.reached["facts"] += 1
            if (first := store.first_transaction(address)) is not None:
                check_first_transaction(first, time.time())
            if (known := store.deployment(address)) is not None:
                expect(
                    all(
                        block is None or block >= 0 for block in (known.absent_at, known.present_at)
                    ),
                    "mismatch",
                    "a contract deployed in an impossible block",
                )
        store.put_token_infos({"0x" + "f" * 40: TokenInfo("New", "NEW", 0)})
        store.close()

    return one


def _recording(bench: Bench) -> Callable[[bytes], None]:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    from src.chain.recording.format import RecordingError, read_table  # noqa: PLC0415

    path = bench.folder / "table.parquet"
    table = pa.table({"token_address": [f"0x{n:040x}" for n in range(9)], "amount": ["1"] * 9})
    pq.write_table(table, path, compression="zstd")
    honest = path.read_bytes()

    def one(content: bytes) -> None:
        path.write_bytes(Data(content).damaged(honest))
        try:
            read_table(path)
        except RecordingError:
            bench.reached["refused"] += 1
            return
        bench.reached["read"] += 1

    return one


def _recordings(bench: Bench) -> Callable[[bytes], None]:
    import shutil  # noqa: PLC0415

    from src.chain.recording.format import MANIFEST, Recording, RecordingError  # noqa: PLC0415

    folder = bench.folder / "recording"
    shutil.copytree(_ROOT / "src/service/demo_blocks", folder)
    manifest = folder / MANIFEST
    honest = json.loads(manifest.read_text())
    (part,) = Recording(folder).parts
    tables = {path: path.read_bytes() for path in sorted(part.path.glob("*.parquet"))}

    def one(content: bytes) -> None:
        data = Data(content)
        manifest.write_bytes(
            data.json_bytes(honest) if data.one_in(2) else json.dumps(honest).encode()
        )
        damaged = data.pick(tuple(tables))
        damaged.write_bytes(data.damaged(tables[damaged]))
        try:
            recording = Recording(folder)
            recording.tokens()
            recording.blocks(["block_number"])
            recording.tables(recording.parts[0])
            bench.reached["read"] += 1
        except RecordingError:
            bench.reached["refused"] += 1
        finally:
            damaged.write_bytes(tables[damaged])

    return one


def _json_rpc_requests(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.replay.server import RpcServer  # noqa: PLC0415

    def echo(block: Any, full: Any = False) -> Any:
        return [block, full]

    server = RpcServer(("127.0.0.1", 0), {"echo": echo})

    def one(content: bytes) -> None:
        request = {"jsonrpc": "2.0", "id": 1, "method": "echo", "params": ["latest", True]}
        answer = server.answer(Data(content).json_bytes(request))
        json.dumps(answer)
        answers = answer if isinstance(answer, list) else [answer]
        for each in answers:
            if each is not None:
                expect(("result" in each) != ("error" in each), "mismatch", each)
        bench.reached["answers"] += 1

    return one


TARGETS = (
    Target("manifest", "model manifests: a valid one or an error", _manifest, 2),
    Target("forest", "model files: a forest that scores in [0, 1] or an error", _forest, 2),
    Target(
        "supervised",
        "supervised models and inputs: a probability in [0, 1] or a typed error",
        _supervised,
        0.5,
    ),
    Target(
        "settings",
        "environment, secrets.json, forta.config.json: no crash, no key disclosed",
        _settings,
        0.2,
    ),
    Target("policy", "policy files: a policy or an error with its line", _policy, 0.1),
    Target("cache", "corrupt cache files: only possible facts", _cache, 0.5),
    Target("recording", "corrupt parquet files: a table or an error", _recording, 1.5),
    Target("recordings", "corrupt recordings: their tables or an error", _recordings, 0.2),
    Target(
        "requests",
        "requests to the replay's JSON-RPC server: a response to each",
        _json_rpc_requests,
        14,
    ),
)
