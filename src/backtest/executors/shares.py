"""Assignment of slices to workers: runs of neighbours, balanced at the end."""

from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from src.backtest.reading.plan import Slice

_MANY = 4  # slices of a worker, from which on one more or less matters little
_DECODING = 0.33
"""Cost of decoding a row, as a share of the total cost of a row."""


class Shares:
    """Assigns slices to workers, in runs of neighbours.

    A worker that continues where its last slice ended decodes each row of a file once (see
    `SliceReader`); one that jumps decodes a row group from its beginning again. So each worker
    starts with a share of the history, and when it is done takes half of the largest remaining
    share.
    """

    def __init__(self, slices: Sequence[Slice], workers: int) -> None:
        ends = _ends(slices, workers)
        self._left = [deque(slices[start:end]) for start, end in pairwise(ends)]

    def take(self, worker: int) -> Slice | None:
        """The next slice for this worker; None if all are assigned."""
        own = self._left[worker]
        if not own:
            longest = max(self._left, key=len)
            for _ in range((len(longest) + 1) // 2):
                own.appendleft(longest.pop())
        return own.popleft() if own else None


def _ends(slices: Sequence[Slice], workers: int) -> list[int]:
    """Ends of the shares, preferably before slices at the beginning of a file."""
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
    """Rows before the slice in its row groups, which must be decoded too."""
    return sum(spans[0].start for spans in (part.transactions, part.transfers) if spans)
