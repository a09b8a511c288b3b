"""Runs a batch analysis, from a request to a stored result, directly or as a job."""

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from src.chain.errors import (
    ExecutionFailed,
    Failure,
    MalformedAnswer,
    NotFound,
    NotStated,
    SourceError,
)
from src.chain.lookups.lookups import Lookups
from src.chain.networks import described
from src.chain.recording.fetch import UnverifiedBlock
from src.decision.tokens import TokenView, token_view
from src.detection.errors import ModelError
from src.monitoring import metrics
from src.service.analysis.detector import (
    MIN_ROWS,
    Moved,
    TrainedForest,
    feature_matrix,
    moved_by,
    ranked,
    token_moves,
    train,
)
from src.service.database.analyses import Analysis, find_analysis, store_analysis
from src.service.database.chain import store_tokens, store_transactions
from src.service.database.engine import Database
from src.service.database.registry import (
    RegisteredModel,
    forest_of,
    latest_model,
    register_model,
)
from src.service.http.problems import Problem, problem_of_source
from src.service.node import LoadedBlock, NodeReader
from src.service.records import LoadedTransaction
from src.service.settings import ServiceSettings

NO_MODEL: Final = "No models found in the registry, train a model first to use a pre-trained one."
_TOKENS_AT_ONCE: Final = 60
_FIRST_PAUSE: Final = 0.5
_VERSION: Final = 2  # of the algorithm; part of an analysis' id, so that a change gives a new one


class NoTransfers(Problem):
    """A range without transfers: nothing to train on, and no result to store."""


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """A validated request."""

    # start_block, end_block: both included.
    start_block: int
    end_block: int
    use_pre_trained_model: bool  # score with the registry's latest model instead of training one

    @property
    def total(self) -> int:
        """The number of blocks."""
        return self.end_block - self.start_block + 1

    def as_json(self) -> dict[str, Any]:
        """As stored in the jobs table."""
        return {
            "start_block": self.start_block,
            "end_block": self.end_block,
            "use_pre_trained_model": self.use_pre_trained_model,
        }


class Cancelled(Exception):
    """The analysis was cancelled, or its time limit is exceeded."""


class Analyst:
    """Analyses ranges of blocks.

    Args:
        database: stores transactions, models and results.
        node: supplies the blocks.
        lookups: supplies the tokens' decimals.
        settings: of the service.
        chain_id: the chain.
    """

    def __init__(
        self,
        database: Database,
        node: NodeReader,
        lookups: Lookups,
        settings: ServiceSettings,
        chain_id: int,
    ) -> None:
        self._database = database
        self._node = node
        self._lookups = lookups
        self._settings = settings
        self._chain_id = chain_id
        # Training is CPU-bound: concurrent analyses would only slow each other down.
        self._training = threading.Lock()

    def check_registry(self, request_uses_model: bool) -> None:
        """Check the registry, before any request to the node.

        Raises:
            Problem: 404 if a pre-trained model is requested and there is none.
        """
        if request_uses_model:
            with self._database.reading() as connection:
                if latest_model(connection, self._chain_id) is None:
                    raise Problem(404, NO_MODEL)

    def blocks_of_interval(self, seconds: int) -> int:
        """How many blocks an interval takes, at least one.

        Raises:
            Problem: 400 for a range over the limit, or a chain whose time between blocks is
                unknown.
        """
        each = self._lookups.seconds_per_block
        if each is None:
            raise Problem(
                400,
                f"The time between blocks of {described(self._chain_id)} is not known, so an "
                "interval cannot be converted: give start_block and end_block, or have "
                "BLOCK_SECONDS set.",
            )
        blocks = max(1, math.ceil(seconds / each))
        self.check_length(blocks, "time_interval_in_seconds")
        return blocks

    def range_of_interval(self, seconds: int) -> tuple[int, int]:
        """The latest blocks within about `seconds`, without the newest block.

        Raises:
            Problem: 400 for a range over the limit, 502 when the node does not answer.
        """
        wanted = self.blocks_of_interval(seconds)
        end = self._head() - 1
        if end < 0:
            raise Problem(404, "The chain has only one block, and the newest is excluded.")
        return max(0, end - wanted + 1), end

    def check_length(self, blocks: int, what: str) -> None:
        """Raise Problem 400 for a range over the limit."""
        if blocks > self._settings.max_blocks:
            raise Problem(
                400,
                f"{what} covers {blocks} blocks, the limit is {self._settings.max_blocks}.",
            )

    def check_head(self, request: RangeRequest) -> None:
        """Raise Problem 400 for blocks that do not exist yet."""
        head = self._head()
        if request.end_block > head:
            raise Problem(
                400, f"end_block is {request.end_block}, but the node's newest block is {head}."
            )

    def analyse(self, request: RangeRequest, on_progress: Callable[[int], None]) -> Analysis:
        """Load the blocks, train or load a model, score, store.

        Args:
            request: the range and the model.
            on_progress: called with the number of loaded blocks; may raise `Cancelled`.

        Raises:
            NoTransfers: the range has none.
            Problem: 404 for no model, 422 for too few transfers, 502 and 504 for the node.
            Cancelled: by `on_progress`.
        """
        self.check_registry(request.use_pre_trained_model)
        try:
            return self._analyse(request, on_progress)
        except (SourceError, NotFound, UnverifiedBlock) as error:
            metrics.error_occurred(error)
            raise problem_of_source(error) from None

    def _analyse(self, request: RangeRequest, on_progress: Callable[[int], None]) -> Analysis:
        transactions, last = self._load(request, on_progress)
        where = f"blocks {request.start_block} to {request.end_block}"
        if not transactions:
            raise NoTransfers(404, f"No ERC-20 transfers in {where}.")
        addresses = {token for one in transactions for token in one.amounts}

        def checkpoint() -> None:
            on_progress(request.total)

        tokens = self._tokens(addresses, checkpoint)
        supplies = {}
        if "supply_share" in self._settings.features:
            supplies = self._supplies(addresses, request.end_block, checkpoint)
        with self._database.writing() as connection:
            store_tokens(connection, self._chain_id, tokens.values())
        moves = token_moves(transactions, tokens, supplies)
        if request.use_pre_trained_model:
            model, forest = self._latest()
            number = model.id
            matrix = feature_matrix(moves, model.inputs)
        else:
            if len(moves) < MIN_ROWS:
                raise Problem(
                    422,
                    f"Training needs at least {MIN_ROWS} transfers, but {where} have {len(moves)}: "
                    "use a larger range, or a pre-trained model.",
                )
            matrix = feature_matrix(moves, self._settings.features)
            with self._training:
                forest = train(
                    matrix,
                    contamination=self._settings.contamination,
                    random_state=self._settings.random_state,
                )
            number = self._register(request, last, forest, len(moves), len(transactions))
        try:
            rows = ranked(moves, matrix, forest)
        except (ModelError, ValueError) as error:
            raise Problem(500, f"The model in the registry is unusable: {error}.") from None
        analysis = Analysis(
            id=self._identity(request, last, forest),
            chain_id=self._chain_id,
            start_block=request.start_block,
            end_block=request.end_block,
            end_block_hash=last.hash,
            model=number,
            n_transactions=len(transactions),
            n_anomalies=len({row.tx_hash for row in rows if row.is_anomaly}),
            analysed_at=time.time(),
        )
        store_analysis(self._database, analysis, rows)
        with self._database.reading() as connection:
            return find_analysis(connection, analysis.id) or analysis

    def _load(
        self, request: RangeRequest, on_progress: Callable[[int], None]
    ) -> tuple[list[Moved], LoadedBlock]:
        """What the range's transactions moved, and its last block; stores them as they are loaded.

        Raises:
            MalformedAnswer: the node gave no block.
        """
        found: list[Moved] = []
        unstored: list[LoadedTransaction] = []
        last = None
        numbers = range(request.start_block, request.end_block + 1)
        for done, block in enumerate(self._node.blocks(numbers), start=1):
            last = block
            # Some chains have system transactions without a sender.
            sent = [one for one in block.transactions if one.sender is not None]
            found += map(moved_by, sent)
            unstored += sent
            if len(unstored) > 1_000:
                self._store(unstored)
                unstored = []
            on_progress(done)
        self._store(unstored)
        if last is None:
            raise MalformedAnswer("node", "no block at all")
        return found, last

    def _store(self, transactions: list[LoadedTransaction]) -> None:
        if transactions:
            with self._database.writing() as connection:
                store_transactions(connection, self._chain_id, transactions, time.time())

    def _tokens(
        self, addresses: Collection[str], checkpoint: Callable[[], None]
    ) -> dict[str, TokenView]:
        """Names and decimals of the tokens, as far as their contracts state them.

        Raises:
            SourceError: no source returned an answer, so a later analysis could differ.
        """
        found: dict[str, TokenView] = {}
        unknown = sorted(addresses)
        pause = _FIRST_PAUSE
        give_up = time.monotonic() + self._settings.node_patience
        while True:
            missing = []
            failure: Failure | None = None
            for start in range(0, len(unknown), _TOKENS_AT_ONCE):
                checkpoint()
                chunk = unknown[start : start + _TOKENS_AT_ONCE]
                for address, info in self._lookups.token_infos(chunk).items():
                    if isinstance(info, Failure):
                        missing.append(address)
                        failure = info
                    else:
                        found[address] = token_view(address, info, self._lookups.well_known)
            if failure is None:
                return found
            is_progress = len(missing) < len(unknown)
            if not is_progress and time.monotonic() + pause > give_up:
                raise failure.error()
            unknown = missing
            if not is_progress:
                time.sleep(pause)
                pause *= 2

    def _supplies(
        self, addresses: Collection[str], block: int, checkpoint: Callable[[], None]
    ) -> dict[str, int]:
        supplies = {}
        for address in sorted(addresses):
            checkpoint()
            try:
                supplies[address] = self._node.total_supply(address, block)
            except (NotStated, ExecutionFailed):
                continue  # a valid result: the contract states no supply
        return supplies

    def _latest(self) -> tuple[RegisteredModel, TrainedForest]:
        with self._database.reading() as connection:
            model = latest_model(connection, self._chain_id)
            if model is None:
                raise Problem(404, NO_MODEL)
            content = forest_of(connection, model)
        forest = TrainedForest(content, model.offset)
        if forest.sha256 != model.sha256:
            raise Problem(500, f"Model {model.id} in the registry was modified and is not used.")
        return model, forest

    def _register(
        self,
        request: RangeRequest,
        last: LoadedBlock,
        forest: TrainedForest,
        n_rows: int,
        n_transactions: int,
    ) -> int:
        settings = self._settings
        training = {
            "chain_id": self._chain_id,
            "start_block": request.start_block,
            "end_block": request.end_block,
            "end_block_hash": last.hash,
            "rows": n_rows,
            "transactions": n_transactions,
            "contamination": settings.contamination,
            "random_state": settings.random_state,
        }
        with self._database.writing() as connection:
            return register_model(
                connection,
                content=forest.content,
                sha256=forest.sha256,
                inputs=list(settings.features),
                offset=forest.offset,
                training=training,
                now=time.time(),
            )

    def _identity(self, request: RangeRequest, last: LoadedBlock, forest: TrainedForest) -> str:
        parts = [
            _VERSION,
            self._chain_id,
            request.start_block,
            request.end_block,
            last.hash,
            forest.sha256,
            forest.offset,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _head(self) -> int:
        try:
            return self._node.head()
        except SourceError as error:
            metrics.error_occurred(error)
            raise problem_of_source(error) from None
