"""Who does which slices: runs of neighbours, evened out at the end."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from src.backtest.plan import Slice


class Shares:
    """Deals slices out to workers, each a run of neighbours.

    A worker that goes on where its last slice ended decodes each row of a file once (see
    `SliceReader`); one that jumps decodes a row group from its beginning again. So each starts with
    a share of the history, and only who has done all of that takes half of what the one who is
    furthest behind has left.
    """

    def __init__(self, slices: Sequence[Slice], workers: int) -> None:
        ends = [len(slices) * number // workers for number in range(workers + 1)]
        self._left = [deque(slices[start:end]) for start, end in pairwise(ends)]

    def take(self, worker: int) -> Slice | None:
        """The next slice for this worker; None where all are taken."""
        own = self._left[worker]
        if not own:
            longest = max(self._left, key=len)
            for _ in range((len(longest) + 1) // 2):
                own.appendleft(longest.pop())
        return own.popleft() if own else None
