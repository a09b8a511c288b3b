"""Who does which slices: runs of neighbours, evened out at the end."""

from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from src.backtest.reading.plan import Slice

_MANY = 4  # slices of a worker, from which on one more or less matters little
_DECODING = 0.33
"""What it takes to decode a row, as a share of all that is done for it."""


class Shares:
    """Deals slices out to workers, each a run of neighbours.

    A worker that goes on where its last slice ended decodes each row of a file once (see
    `SliceReader`); one that jumps decodes a row group from its beginning again. So each starts with
    a share of the history, and only who has done all of that takes half of what the one who is
    furthest behind has left.
    """

    def __init__(self, slices: Sequence[Slice], workers: int) -> None:
        ends = _ends(slices, workers)
        self._left = [deque(slices[start:end]) for start, end in pairwise(ends)]

    def take(self, worker: int) -> Slice | None:
        """The next slice for this worker; None where all are taken."""
        own = self._left[worker]
        if not own:
            longest = max(self._left, key=len)
            for _ in range((len(longest) + 1) // 2):
                own.appendleft(longest.pop())
        return own.popleft() if own else None


def _ends(slices: Sequence[Slice], workers: int) -> list[int]:
    """Where shares end: the next slice had better be one that is read from a file's beginning."""
    ends = [len(slices) * number // workers for number in range(workers + 1)]
    if len(slices) < _MANY * workers:
        return ends
    size = sum(_rows(part) for part in slices) / len(slices)

    def cost(at: int, even: int) -> float:
        return abs(at - even) * size + _DECODING * _in_vain(slices[at])

    inner = [min((at, at - 1, at + 1), key=partial(cost, even=at)) for at in ends[1:-1]]
    return [0, *inner, len(slices)]


def _rows(part: Slice) -> int:
    return sum(span.stop - span.start for span in (*part.transactions, *part.transfers))


def _in_vain(part: Slice) -> int:
    """Rows before the slice in its row groups, which have to be decoded as well."""
    return sum(spans[0].start for spans in (part.transactions, part.transfers) if spans)
