"""Builders and fixtures of all tests.

What is slow to import (scikit-learn, web3, numba) is imported where it is used: every run of a
single test file pays for this one.
"""

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from src.chain.transfers import TRANSFER_TOPIC
from tests.support.early_end import end_in_good_order
from tests.support.waiting import FOR_EVER

if TYPE_CHECKING:
    from forta_agent import TransactionEvent

    from src.chain.lookups.lookups import Lookups

# What a busy machine makes slow is not wrong. The same examples each time, so that a failure is of
# the change at hand; `npm run fuzz` tries others.
# Every setting is given: what is left out, Hypothesis takes from a profile of its own where the
# variable CI is set.
settings.register_profile(
    "explore",
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile(
    "project", settings.get_profile("explore"), derandomize=True, max_examples=50
)
settings.load_profile("project")


def pytest_configure(config: pytest.Config) -> None:
    end_in_good_order(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported stays: not looking for garbage among it saves a third of the collection."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What fails fast comes first; in several processes what takes long, so that none idles."""
    in_turn = not hasattr(config, "workerinput")
    items.sort(key=lambda item: (item.get_closest_marker("integration") is not None) == in_turn)


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process has each file, and one all those that share a service and a browser."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return WEB_PAGES if file.startswith(WEB_PAGES) else file

    return Scheduling(config, log)


WEB_PAGES = "tests/service/web/"
ALICE = "0x" + "a1" * 20
BOB = "0x" + "b2" * 20
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
UNKNOWN_TOKEN = "0x" + "77" * 20
TX_HASH = "0x" + "ab" * 32
BLOCK = 20_000_000
TIMESTAMP = 1_700_000_000


def word(number: int) -> str:
    return f"0x{number:064x}"


def topic(address: str) -> str:
    return "0x" + "0" * 24 + address[2:]


def transfer_log(token=USDC, sender=ALICE, recipient=BOB, amount=1, index=0):
    return {
        "address": token,
        "topics": [TRANSFER_TOPIC, topic(sender), topic(recipient)],
        "data": word(amount),
        "logIndex": index,
    }


def event_of(logs, **changes) -> "TransactionEvent":
    """A transaction event as the bridge makes it from JSON."""
    from forta_agent import create_transaction_event

    for index, log in enumerate(logs):
        log["logIndex"] = index
    return create_transaction_event(
        {
            "transaction": {"hash": TX_HASH, "from": ALICE, "to": BOB, "nonce": 1},
            "block": {"hash": "0x" + "b" * 64, "number": BLOCK, "timestamp": TIMESTAMP},
            "network": 1,
            "logs": logs,
            **changes,
        }
    )


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model bundle on the real inputs: zeros are usual, everything else is not."""
    import numpy as np
    from sklearn.ensemble import IsolationForest

    from src.detection.features.definitions import FOREST_INPUTS
    from src.training.bundle import write_bundle

    rng = np.random.default_rng(0)
    shape = (2000, len(FOREST_INPUTS))
    rows = np.round(rng.exponential(size=shape), 1) * (rng.random(shape) < 0.1)
    forest = IsolationForest(n_estimators=50, max_samples=128, random_state=0).fit(
        rows.astype(np.float32)
    )
    path = tmp_path_factory.mktemp("bundle") / "isolation_forest.pkl"
    write_bundle(
        path,
        forest=forest,
        inputs=FOREST_INPUTS,
        training_rows=rows,
        training_scores=np.abs(forest.score_samples(rows.astype(np.float32))),
        token_amounts={},
        anomaly_threshold=0.5,
        model_version=1_650_000_000,
        training={},
    )
    return path


@pytest.fixture
def start_bot(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`start_bot(JSON_RPC_URL=...)` initialises the bot with these settings and no others.

    Where there is no LOOKUP_DEADLINE_SECONDS among them it waits for every answer, and a request
    never times out: what ends a wait is the deadline of the test or nothing. `clock` is that of the
    rate limits and circuit breakers.
    """
    import src.agent
    from src.chain.lookups.build import build_lookups
    from src.settings import SETTINGS
    from src.utils import data_processing

    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(src.agent, "BOT", None)
    monkeypatch.setattr(data_processing, "_in_use", None)

    def start(*, clock: Callable[[], float] = time.monotonic, **settings: str) -> None:
        for name, value in {
            "MODEL_PATH": str(bundle_path),
            "JSON_RPC_URL": "http://127.0.0.1:1",
            "FORTA_CHAIN_ID": "1",
            **settings,
        }.items():
            monkeypatch.setenv(name, value)
        patient: dict[str, Any] = {
            "timeout_seconds": FOR_EVER, "search_seconds": FOR_EVER, "clock": clock,
        }  # fmt: skip
        if "LOOKUP_DEADLINE_SECONDS" not in settings:
            patient |= {"deadline_seconds": FOR_EVER}

        def build(**options: Any) -> "Lookups":
            return build_lookups(**options | patient)

        monkeypatch.setattr("src.decision.lookups.build_lookups", build)
        src.agent.initialize()

    yield start
    if src.agent.BOT is not None:
        src.agent.BOT.close()
