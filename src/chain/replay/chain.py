"""The recorded part of a chain, with lookup by number and hash.

`Unrecorded` distinguishes "is not in this recording" from "does not exist": a `null` for an
unrecorded block would tell a client that there is no such block.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import groupby
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from src.chain.recording.format import Recording, TokenAnswers
from src.chain.recording.rows import BlockRows, Json, RecordedBlock, decode_block

_BLOCKS_IN_MEMORY = 64
_PREFIX_CHARACTERS = 16  # hex digits of a transaction hash that are indexed: 8 bytes each
_AUTHORISING_TYPE = 4  # EIP-7702: raises the nonces of accounts other than the sender


class Unrecorded(LookupError):
    """The recording does not contain the data. The message is for the client."""


class RecordedChain:
    """Lookups in a recording. Thread-safe.

    Uses 16 bytes per transaction; blocks are read on demand.
    """

    def __init__(self, recording: Recording) -> None:
        """Index the recording's blocks and transactions.

        Raises:
            RecordingError: a file cannot be read.
            ValueError: there are no blocks.
        """
        self.chain_id = recording.chain_id
        self._recording = recording
        blocks = recording.blocks(["block_number", "block_hash"])
        self.numbers: list[int] = blocks["block_number"].to_pylist()
        if not self.numbers:
            raise ValueError("the recording contains no blocks")
        hashes = blocks["block_hash"].to_pylist()
        self._number_of_hash: dict[str, int] = dict(zip(hashes, self.numbers, strict=True))
        transactions = recording.transactions(["tx_hash", "block_number"])
        self.transaction_count = transactions.num_rows
        prefixes = _hash_prefixes(transactions["tx_hash"])
        order = np.argsort(prefixes, kind="stable")
        self._prefixes = prefixes[order]
        self._block_of_prefix = transactions["block_number"].to_numpy()[order]
        self._cached_block = lru_cache(maxsize=_BLOCKS_IN_MEMORY)(self._read_block)

    @property
    def head(self) -> int:
        """The newest recorded block."""
        return self.numbers[-1]

    @cached_property
    def tokens(self) -> dict[str, TokenAnswers]:
        """Token metadata by address."""
        return self._recording.tokens()

    def blocks_with_transactions(self) -> list[int]:
        """The numbers of the blocks that are not empty."""
        numbers: list[int] = np.unique(self._block_of_prefix).tolist()
        return numbers

    def ranges(self) -> list[tuple[int, int]]:
        """The runs of consecutive recorded blocks, both ends included."""
        runs = []
        for _, run in groupby(enumerate(self.numbers), key=lambda pair: pair[1] - pair[0]):
            members = [number for _, number in run]
            runs.append((members[0], members[-1]))
        return runs

    def block(self, number: int) -> RecordedBlock:
        """The block with this number; the last few are cached. Raises `Unrecorded`."""
        return self._cached_block(number)

    def number_of(self, block_hash: str) -> int:
        """The number of the block with this hash. Raises `Unrecorded`."""
        number = self._number_of_hash.get(block_hash.lower())
        if number is None:
            raise Unrecorded(f"block {block_hash} is not in this recording")
        return number

    def transaction(self, transaction_hash: str) -> tuple[Json, Json]:
        """A transaction and its receipt. Raises `Unrecorded`."""
        wanted = transaction_hash.lower()
        prefix = np.uint64(int(wanted[2 : 2 + _PREFIX_CHARACTERS], 16))
        start, stop = (np.searchsorted(self._prefixes, prefix, side) for side in ("left", "right"))
        for number in self._block_of_prefix[start:stop]:
            recorded = self.block(int(number))
            pairs = zip(recorded.block["transactions"], recorded.receipts, strict=True)
            for transaction, receipt in pairs:
                if transaction["hash"].lower() == wanted:
                    return transaction, receipt
        raise Unrecorded(f"transaction {transaction_hash} is not in this recording")

    def blocks_between(self, first: int, last: int) -> Iterator[RecordedBlock]:
        """The blocks from `first` to `last`, both included.

        Raises:
            Unrecorded: not all of them are recorded; raised before the first one is returned.
        """
        if not self._has_all(first, last):
            missing = next(n for n in range(first, last + 1) if not self._has_all(n, n))
            raise Unrecorded(
                f"not all blocks from {first} to {last} are in this recording: {missing} is not;"
                f" {self._nearest(missing)}"
            )
        return (self.block(number) for number in range(first, last + 1))

    def describe_ranges(self, most: int = 5) -> str:
        """The recorded block numbers in words, e.g. "18000000-18000099, 18000200"."""
        ranges = self.ranges()
        shown = [str(a) if a == b else f"{a}-{b}" for a, b in ranges[:most]]
        more = len(ranges) - len(shown)
        return ", ".join(shown) + (f" and {more} more ranges" if more else "")

    def nonce_after(self, address: str, number: int) -> int:
        """The number of transactions that the account has sent up to and including this block.

        It is known if recorded transactions bound it from both sides, or from one side with all
        blocks between recorded. (The nonce of a contract, or of an account with code by EIP-7702,
        also counts the contracts that it creates, so it is unknown without transactions.)

        Raises:
            Unrecorded: it does not follow from the recorded transactions.
        """
        block_numbers, nonces = self._sent.get(address.lower(), ([], []))
        position = bisect_right(block_numbers, number)
        at_least = nonces[position - 1] + 1 if position > 0 else None
        at_most = nonces[position] if position < len(nonces) else None
        if at_least is not None and at_least == at_most:
            return at_least
        if at_least is not None and self._nothing_else(block_numbers[position - 1], number):
            return at_least
        if at_most is not None and self._nothing_else(number + 1, block_numbers[position]):
            return at_most
        raise Unrecorded(f"the nonce of {address} after block {number} is not in this recording")

    def _read_block(self, number: int) -> RecordedBlock:
        if not self._has_all(number, number):
            raise Unrecorded(f"block {number} is not in this recording; {self._nearest(number)}")
        parts = self._recording.parts
        part = parts[bisect_right(parts, number, key=attrgetter("first")) - 1]
        tables = self._recording.tables(part)
        blocks, transactions, logs = (_rows_of(table, number) for table in tables)
        return decode_block(BlockRows(blocks[0], transactions, logs))

    def _nearest(self, number: int) -> str:
        position = bisect_left(self.numbers, number)
        nearest = self.numbers[max(0, position - 1) : position + 1]
        return "the nearest recorded are " + " and ".join(map(str, nearest))

    def _has_all(self, first: int, last: int) -> bool:
        start = bisect_left(self.numbers, first)
        stop = bisect_right(self.numbers, last)
        return stop - start == last - first + 1

    def _nothing_else(self, first: int, last: int) -> bool:
        """Whether these blocks are recorded, and no transaction in them raises others' nonces."""
        if not self._has_all(first, last):
            return False
        blocks = range(first, last + 1)
        return not any(number in self._authorising_blocks for number in blocks)

    @cached_property
    def _sent(self) -> dict[str, tuple[list[int], list[int]]]:
        """Each sender's transactions: block numbers and nonces, in order of the nonces."""
        table = self._recording.transactions(["from_address", "nonce", "block_number"])
        table = table.filter(pc.is_valid(table["nonce"])).sort_by(
            [("from_address", "ascending"), ("nonce", "ascending")]
        )
        senders, nonces, numbers = (table[name].to_pylist() for name in table.column_names)
        sent: dict[str, tuple[list[int], list[int]]] = {}
        for sender, nonce, number in zip(senders, nonces, numbers, strict=True):
            its_numbers, its_nonces = sent.setdefault(sender, ([], []))
            its_numbers.append(number)
            its_nonces.append(nonce)
        return sent

    @cached_property
    def _authorising_blocks(self) -> frozenset[int]:
        table = self._recording.transactions(["tx_type", "block_number"])
        table = table.filter(pc.equal(table["tx_type"], _AUTHORISING_TYPE))
        return frozenset(table["block_number"].to_pylist())


def _rows_of(table: pa.Table, number: int) -> list[Json]:
    """The rows of one block, from a table ordered by block number."""
    numbers = table["block_number"].to_numpy()
    start, stop = (int(np.searchsorted(numbers, number, side)) for side in ("left", "right"))
    rows: list[Json] = table.slice(start, stop - start).to_pylist()
    return rows


def _hash_prefixes(hashes: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each hash, as an integer."""
    prefixes = pc.utf8_slice_codeunits(hashes, 2, 2 + _PREFIX_CHARACTERS)
    joined = bytes.fromhex("".join(prefixes.to_pylist()))
    return np.frombuffer(joined, ">u8").astype(np.uint64)
