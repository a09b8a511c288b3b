"""Transactions as detectors see them, from the data set: background, exploits, poisoning.

What a row does not hold stays unknown here as well: no sender's age anywhere, no symbol of a token
that is not on a list, no nonce of an exploit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from src.chain.names.book import published_routers
from src.chain.networks import chain_ids_by_name, network
from src.chain.transfers import Transfer
from src.chain.well_known import load_well_known_tokens
from src.datasets.columns import TRANSFER_COLUMNS
from src.datasets.location import EXPLOITS_FILE
from src.datasets.store import is_store
from src.datasets.tables import TableError, fungible, read_table, require_columns
from src.datasets.tokens import token_facts
from src.datasets.training_set import exploit_hashes, load_tables
from src.detection.assessment import Assessor
from src.detection.counterparties import CounterpartyBook
from src.detection.evidence import Evidence, TokenFact
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, columns_of, feature_row
from src.detection.forest.model import Model

LABELS_FILE = "labelled_addresses.csv.gz"
POISONING_FILE = "poisoning_transfers.csv.gz"
STRANGER = "0x" + "57" * 20
"""Stands for the poisoner: the rows name no sender, and it is none of the accounts named."""

# A poisoning row's label -> what it is.
ATTEMPTS = ("poisoning_zero_value", "poisoning_counterfeit", "poisoning_tiny")
PAYOFF = "poisoning_payoff"

_POISONING_COLUMNS = (
    "tx_hash", "label", "intended_addr", "is_sender_victim", *TRANSFER_COLUMNS[2:]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One transaction to judge."""

    tx_hash: str
    kind: str  # what it is known to be
    evidence: Evidence
    # An earlier payment that a bot which watched the victim would remember.
    memory: tuple[Transfer, ...] = ()


class Facts:
    """Fills in what the bot knows of any transaction: the model's score and a folder's tokens."""

    def __init__(self, model: Model, folder: Path) -> None:
        self._assessor = Assessor(model, attributions=0)
        self._profile = TokenProfile.from_manifest(model.manifest)
        self._columns = columns_of(model.inputs)
        self._well_known = load_well_known_tokens(1)
        self._tokens = token_facts(folder, 1)

    def evidence(
        self,
        transfers: Sequence[Transfer],
        sender: str,
        to: str | None = None,
        nonce: int | None = None,
        look_alikes: Any = (),
        chain_id: int = 1,
    ) -> Evidence:
        """The evidence of one transaction."""
        row = feature_row(transfers, sender, self._profile)
        tokens = {transfer.token for transfer in transfers}
        return Evidence(
            transfers=transfers,
            sender=sender,
            to=to,
            nonce=nonce,
            assessment=self._assessor.assess(row[self._columns]),
            features=dict(zip(FEATURE_NAMES, row.tolist(), strict=True)),
            tokens={token: fact for token in tokens if (fact := self._token(token))},
            values=self._profile.values,
            look_alikes=look_alikes,
            chain_id=chain_id,
            wrapped_native=network(chain_id).wrapped_native,
            routers=published_routers(chain_id),
        )

    def _token(self, token: str) -> TokenFact | None:
        if (fact := self._tokens.get(token)) is not None:
            return fact
        known = self._well_known.get(token)
        return None if known is None else TokenFact(known.symbol)


def read_mev_bots(folder: Path) -> frozenset[str]:
    """Accounts that are labelled as MEV bots, where the folder lists any."""
    path = folder / LABELS_FILE
    if not path.is_file():
        return frozenset()
    table = read_table(path, ("address", "category"))
    return frozenset(table[table["category"] == "mev_bot"]["address"].str.lower())


def background(folder: Path, facts: Facts) -> Iterator[Case]:
    """Ordinary transactions of whole blocks, in the chain's order, with a memory as the bot has."""
    transactions, transfers = load_tables(folder)
    complete = transactions["full_block"].astype(bool) & transactions["all_logs"].astype(bool)
    kept = transactions[complete & ~transactions["tx_hash"].isin(exploit_hashes(folder))]
    kept = kept.drop_duplicates("tx_hash").sort_values(["block_number", "tx_index"])
    wanted = set(kept["tx_hash"])
    rows = fungible(transfers[transfers["tx_hash"].isin(wanted)])
    by_hash = _transfers_by_hash(rows, "log_index", folder)
    book = CounterpartyBook()
    for tx in kept.itertuples():
        moved = by_hash.get(str(tx.tx_hash))
        if moved:
            sender, to = _address(tx.from_address), _address(tx.to_address) or None
            nonce = getattr(tx, "nonce", None)
            nonce = None if pd.isna(nonce) else int(nonce)
            pairs = book.enter(moved, sender)
            evidence = facts.evidence(moved, sender, to, nonce, pairs)
            yield Case(str(tx.tx_hash), "background", evidence)


def background_of_calls(folder: Path, facts: Facts) -> Iterator[Case]:
    """The same of whole blocks rebuilt from calls, where the folder has any."""
    path = folder / "calls_background_transfers.csv.gz"
    if path.is_file():
        listed = read_table(folder / "calls_background_transactions.csv.gz", ("tx_hash", "tx_to"))
        listed = listed[~listed["in_exploit_list"].astype(bool)].set_index("tx_hash")
        rows = read_table(path, ("tx_hash", "seq"))
        rows = rows[rows["tx_hash"].isin(listed.index)]
        for tx_hash, moved in _transfers_by_hash(rows, "seq", path).items():
            sender, to = (_address(listed.at[tx_hash, side]) for side in ("tx_from", "tx_to"))
            yield Case(tx_hash, "background", facts.evidence(moved, sender, to))


def attacks(transactions: Path, transfers: Path, facts: Facts) -> Iterator[Case]:
    """Exploits of two tables: known ones, replays, or rewritten ones by the hash they `evade`.

    Most known ones are rebuilt from calls, so that mints and burns are missing.
    """
    rows = read_table(transfers, ("tx_hash", "tx_from", "seq"))
    listed = read_table(transactions, ("tx_hash", "label")).drop_duplicates("tx_hash")
    listed = listed[listed["label"] == "exploit"].set_index("tx_hash")
    if "preferred" in rows.columns:
        rows = rows[rows["preferred"] == 1]
    rows = rows[rows["tx_hash"].isin(listed.index)]
    senders = dict(zip(rows["tx_hash"], rows["tx_from"], strict=True))
    chain_ids = chain_ids_by_name()
    for tx_hash, moved in _transfers_by_hash(rows, "seq", transfers).items():
        row = listed.loc[tx_hash]
        evidence = facts.evidence(
            moved,
            _address(senders[tx_hash]),
            _address(row.get("to_address")) or None,
            chain_id=chain_ids.get(str(row.get("chain")), 1),
        )
        yield Case(str(row.get("evades", tx_hash)), "exploit", evidence)


def poisoning(folder: Path, facts: Facts) -> Iterator[Case]:
    """Recorded address poisoning, the rows of one transaction together.

    The rows are single transfers, not whole transactions: what else a transaction moved is unknown,
    and so is who sent it. An attempt is given a stranger as sender, as it must have had; a payoff
    its victim. `memory` holds one genuine payment of the victim to the imitated address.
    """
    rows = read_table(folder / POISONING_FILE, _POISONING_COLUMNS)
    rows = rows[rows["label"].isin([*ATTEMPTS, PAYOFF])].reset_index(names="order")
    for (tx_hash, kind), group in rows.groupby(["tx_hash", "label"], sort=True):
        moved: list[Transfer] = []
        memory: list[Transfer] = []
        for row in group.itertuples():
            payer, payee = _address(row.from_address), _address(row.to_address)
            token = _address(row.token_address)
            amount = _amount(row.value_raw, zero=kind == "poisoning_zero_value")
            moved.append(Transfer(token, payer, payee, amount, len(moved)))
            is_payer = str(row.is_sender_victim).lower().startswith("t")
            if isinstance(row.intended_addr, str):
                victim = payer if is_payer else payee
                memory.append(Transfer(token, victim, row.intended_addr.lower(), 10**6, 0))
        sender = moved[0].sender if kind == PAYOFF else STRANGER
        evidence = facts.evidence(moved, sender, moved[0].token)
        yield Case(str(tx_hash), str(kind), evidence, tuple(memory))


def with_memory(case: Case) -> Evidence:
    """The evidence of a bot that saw the victim pay the imitated address before."""
    book = CounterpartyBook()
    for payment in case.memory:
        book.enter([payment], payment.sender)
    pairs = book.enter(list(case.evidence.transfers), case.evidence.sender)
    return replace(case.evidence, look_alikes=pairs)


def _transfers_by_hash(rows: pd.DataFrame, order: str, path: Path) -> dict[str, list[Transfer]]:
    require_columns(rows, TRANSFER_COLUMNS[2:], str(path))
    found: dict[str, list[Transfer]] = {}
    row: Any
    for row in rows.sort_values(["tx_hash", order], kind="stable").itertuples():
        token, payer, payee = map(_address, (row.token_address, row.from_address, row.to_address))
        try:
            transfer = Transfer(token, payer, payee, int(row.value_raw), int(getattr(row, order)))
        except (TypeError, ValueError) as error:
            raise TableError(f"{path}, transaction {row.tx_hash}: {error}") from error
        found.setdefault(str(row.tx_hash), []).append(transfer)
    return found


def _address(value: Any) -> str:
    """In lower case; "" where it is unknown, as in a `TransactionSet`."""
    return value.lower() if isinstance(value, str) else ""


def _amount(value: Any, *, zero: bool) -> int:
    """The raw amount; some sources rounded it or left it out, which no rule depends on."""
    if zero:
        return 0
    try:
        return max(1, int(float(value)))
    except (TypeError, ValueError, OverflowError):
        return 1


def need_dataset(folder: Path) -> None:
    """Raise TableError naming the first file that the report needs and the folder lacks."""
    tables = () if is_store(folder) else ("transactions.parquet", "transfers.parquet")
    for name in (*tables, POISONING_FILE, EXPLOITS_FILE):
        if not (folder / name).is_file():
            raise TableError(f"{folder}: lacks {name}")
