"""How sure a share is that a report states."""

import math


def share_interval(successes: int, trials: int) -> tuple[float, float]:
    """95% interval of a share (Wilson, 1927), which does not collapse at 0 of n."""
    z = 1.959963984540054
    share = successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + (z / 2 / trials) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)
