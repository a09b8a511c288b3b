"""The complete handler: findings are compared with an independent implementation."""

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fuzz.data import Data
from fuzz.oracles import (
    TRANSFER_TOPIC,
    check_bridge_line,
    check_metadata,
    check_scaled,
    decoded_transfer,
    expect,
)
from fuzz.target import Bench, Target

_ZERO = "0x" + "0" * 40
_KNOWN_TOKENS = (
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",  # USDC, 6 decimals
    "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2",  # WETH, 18
)
_KNOWN_DECIMALS = dict(zip(_KNOWN_TOKENS, (6, 18), strict=True))
_ACCOUNTS = ("0x" + "b1" * 20, "0x" + "b2" * 20, "0x" + "b3" * 20, _ZERO)
_PRIMARY = frozenset(f"{kind}-TOKEN-TRANSFERS-TX" for kind in ("NORMAL", "ANOMALOUS", "INVALID"))
_TIMESTAMP = 1_700_000_000
_AGE = "account_active_period_in_minutes"
_BATCH = 256  # rows that scikit-learn scores at once: one at a time costs it milliseconds

_ExpectedTransfer = tuple[str, str, str, int]


class _World:
    """The bot without sources, and a cache into which the fuzzer puts what sources said."""

    def __init__(self) -> None:
        import src.agent  # noqa: PLC0415 - the code under attack
        from src.chain.lookups.cache import FactCache  # noqa: PLC0415
        from src.chain.lookups.lookups import Lookups  # noqa: PLC0415
        from src.chain.lookups.sources import Sources  # noqa: PLC0415
        from src.chain.lookups.store import FactStore  # noqa: PLC0415
        from src.chain.well_known import load_well_known_tokens  # noqa: PLC0415
        from src.settings import SETTINGS  # noqa: PLC0415

        for name in SETTINGS:
            os.environ.pop(name, None)
        os.environ["JSON_RPC_URL"] = "http://127.0.0.1:1"
        src.agent.initialize()
        bot = src.agent.BOT
        assert bot is not None
        self.handle: Callable[[Any], list[Any]] = src.agent.handle_transaction
        self.threshold = bot.pipeline.threshold
        self.inputs: Sequence[str] = bot.pipeline.model.inputs
        manifest = bot.pipeline.model.manifest
        self.amounts: Mapping[str, Any] = manifest.token_amounts
        self.eth: Mapping[str, float] = manifest.reference_values.eth_per_unit
        self.model_path = bot.settings.model_path
        self.cache = FactCache(FactStore(None, 1))
        lookups = Lookups(
            Sources(self.cache, patience=0.3),
            self.cache,
            FactStore(None, 1),
            load_well_known_tokens(1),
            chain_id=1,
            seconds_per_block=12.0,
            deadline_seconds=1.0,
            add_explorers=lambda _etherscan, _ethplorer: None,
        )
        src.agent.BOT = replace(bot, lookups=lookups)

    def hostile_token(self, data: Data) -> tuple[str, int | None]:
        """A token whose metadata a source gave: its address and decimals, None if refused."""
        from src.chain.errors import MalformedAnswer  # noqa: PLC0415
        from src.chain.facts import token_info  # noqa: PLC0415

        name, symbol = data.text(), data.text()
        decimals = data.pick((18, 0, 255, "6", data.byte(), 256, -1, None))
        raw = repr((name, symbol, decimals)).encode("utf-8", "surrogatepass")
        address = "0x" + hashlib.sha256(raw).hexdigest()[:40]
        try:
            info = token_info("fuzz", name, symbol, decimals)
        except MalformedAnswer:
            return address, None
        self.cache.keep_token_infos({address: info})
        return address, info.decimals

    def sender(self, data: Data) -> tuple[str, float | None]:
        """A sender and its age in minutes, None if unknown."""
        from src.chain.facts import FirstTransaction  # noqa: PLC0415

        first = data.pick((None, 1_500_000_000, _TIMESTAMP, _TIMESTAMP + 1, 1))
        address = "0x" + hashlib.sha256(repr(first).encode()).hexdigest()[:40]
        if first is None:
            return address, None
        self.cache.keep_first_transactions({address: FirstTransaction(first, "etherscan")})
        return address, (_TIMESTAMP - first) / 60


class _ScikitLearn:
    """The second path: scikit-learn scores, many rows at once, what the bot has scored."""

    def __init__(self, world: _World) -> None:
        import dill  # noqa: PLC0415 - slow to import, and only this target needs it

        self._forest = dill.loads(world.model_path.read_bytes())
        self._threshold = world.threshold
        self._rows: list[list[float]] = []
        self._shown: list[tuple[str, str]] = []

    def compare(self, row: list[float], score: str, prediction: str) -> None:
        """Note the bot's result for a row; every so many rows hold it against scikit-learn."""
        import numpy as np  # noqa: PLC0415

        self._rows.append(row)
        self._shown.append((score, prediction))
        if len(self._rows) < _BATCH:
            return
        scores = -self._forest.score_samples(np.array(self._rows, dtype=np.float32))
        compared, self._rows, self._shown = self._shown, [], []
        for (shown, predicted), wanted in zip(compared, scores.tolist(), strict=True):
            expect(shown == f"{wanted:.3f}", "mismatch", f"score {shown}, scikit-learn {wanted}")
            label = "ANOMALY" if wanted >= self._threshold else "NORMAL"
            expect(predicted == label, "mismatch", f"{predicted} at {wanted}")


def _events(bench: Bench) -> Callable[[bytes], None]:
    from forta_agent import create_transaction_event  # noqa: PLC0415

    world = _World()
    sys.setrecursionlimit(1000)
    judge = _ScikitLearn(world)
    profile = {token: (known.center, known.scale) for token, known in world.amounts.items()}

    def one(content: bytes) -> None:
        data = Data(content)
        sender, age = world.sender(data)
        hostile, hostile_decimals = world.hostile_token(data)
        decimals = {**_KNOWN_DECIMALS, hostile: hostile_decimals}
        logs = _raw_logs(data, (*_KNOWN_TOKENS, hostile), (sender, *_ACCOUNTS))
        event: dict[str, Any] = {
            "transaction": {"hash": "0x" + "ab" * 32, "from": sender, "to": _ACCOUNTS[0]},
            "block": {"number": 20_000_000, "timestamp": _TIMESTAMP},
            "logs": logs,
        }
        odd = data.one_in(8)
        if odd:
            for part in ("transaction", "block"):
                altered = data.altered(event[part])
                event[part] = altered if isinstance(altered, dict) else {}
        try:
            made = create_transaction_event(event)
        except Exception:  # noqa: BLE001 - the SDK's own refusals, of any kind
            bench.reached["refused by the SDK"] += 1
            return
        findings = world.handle(made)
        transfers = _expected(logs)
        if not transfers:
            expect(findings == [], "mismatch", "a finding without a transfer")
            return
        for finding in findings:
            check_bridge_line(finding.toJson())
            check_metadata(finding.metadata)
        primary = [finding for finding in findings if finding.alert_id in _PRIMARY]
        expect(len(primary) == 1, "mismatch", f"{len(primary)} primary findings")
        metadata = primary[0].metadata
        reason = metadata.get("reason", "")
        expect("internal error" not in reason, "crash", reason)
        expect(metadata["transfer_counts"] == str(len(transfers)), "mismatch", "transfer_counts")
        _check_largest(metadata, transfers, decimals)
        if odd:
            return
        if age is not None and age < 0:
            expect(metadata[_AGE] == "unknown", "mismatch", "an impossible age was shown")
            bench.reached["impossible age"] += 1
        _check_features(metadata, transfers, sender, profile, world.eth)
        row = [float(metadata[name]) for name in world.inputs]
        judge.compare(row, metadata["anomaly_score"], metadata["prediction"])
        bench.reached["scored"] += 1
        bench.reached[metadata["prediction"]] += 1

    return one


def _raw_logs(data: Data, tokens: Sequence[str], accounts: Sequence[str]) -> list[dict[str, Any]]:
    logs: list[dict[str, Any]] = []
    for index in range(data.byte() % 24):
        amount = data.byte() % 4 if data.one_in(2) else data.uint() % 2**256
        log: dict[str, Any] = {
            "address": data.pick(tokens),
            "topics": [
                TRANSFER_TOPIC,
                *("0x" + data.pick(accounts)[2:].rjust(64, "0") for _ in "ab"),
            ],
            "data": f"0x{amount:064x}",
            "logIndex": index,
        }
        if data.one_in(12):
            altered = data.altered(log)
            log = altered if isinstance(altered, dict) else {"topics": altered}
        logs.append(log)
    if data.one_in(64):
        logs *= 20
    return logs


def _expected(logs: Sequence[Mapping[str, Any]]) -> list[_ExpectedTransfer]:
    from src.chain.quantities import as_int  # noqa: PLC0415

    found: list[tuple[int, _ExpectedTransfer]] = []
    for position, log in enumerate(logs):
        if log.get("removed") is True:
            continue
        transfer = decoded_transfer(log.get("address"), log.get("topics"), log.get("data"))
        index = as_int(log.get("logIndex", log.get("log_index")))
        if transfer is not None:
            found.append((position if index is None else index, transfer))
    return [transfer for _, transfer in sorted(found, key=lambda pair: pair[0])]


def _check_largest(
    metadata: Mapping[str, str],
    transfers: Sequence[_ExpectedTransfer],
    decimals: Mapping[str, int | None],
) -> None:
    counts: dict[str, int] = {}
    sums: dict[str, int] = {}
    for token, _, _, amount in transfers:
        counts[token] = counts.get(token, 0) + 1
        sums[token] = sums.get(token, 0) + amount
    largest = min(counts, key=lambda token: (-counts[token], token))
    shown = metadata["max_single_token_transfers_value"]
    known = decimals.get(largest)
    if known is None:
        expect(shown == "unknown", "mismatch", f"{shown} of a token without decimals")
    else:
        check_scaled(float(shown), sums[largest], known)


def _check_features(
    metadata: Mapping[str, str],
    transfers: Sequence[_ExpectedTransfer],
    sender: str,
    profile: Mapping[Any, tuple[float, float]],
    eth: Mapping[Any, float],
) -> None:
    from tests.support.reference_features import reference_features  # noqa: PLC0415
    from tests.support.reference_view import reference_view  # noqa: PLC0415

    if len(transfers) > 40:  # the definition in exact integers is quadratic
        return
    seen = reference_view(transfers, sender, _ZERO, eth)
    forms = [reference_features(one, sender, _ZERO, profile, eth) for one in (transfers, seen)]
    for name in forms[0]:
        wanted = max(form[name] for form in forms)
        got = float(metadata[name])
        expect(abs(got - wanted) <= 1e-9, "mismatch", f"{name} is {got}, exactly {wanted}")


TARGETS = (
    Target(
        "events",
        "events through handle_transaction: one valid finding, with features and score equal to"
        " exact arithmetic and scikit-learn",
        _events,
        3.0,
        time_share=3.0,
    ),
)
