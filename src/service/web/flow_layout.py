"""Where the boxes and labels of a flow's picture are: a layered layout by fast-sugiyama."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fast_sugiyama import from_edges

BETWEEN_ROWS: Final = 34.0
_MARGIN = 12.0
_BEND = 0.3  # of a column: the room of an arrow that passes a row


@dataclass(frozen=True, slots=True)
class Places:
    """The middle of each vertex, and the next vertex above and below those that are no boxes."""

    middle: dict[int, tuple[float, float]]
    above: dict[int, int]
    below: dict[int, int]

    def way(self, label: int) -> list[int]:
        """The vertices of a pair's arrows from top to bottom, the boxes included."""
        way = [label]
        while way[0] in self.above:
            way.insert(0, self.above[way[0]])
        while way[-1] in self.below:
            way.append(self.below[way[-1]])
        return way


def placed(
    count: int, pairs: Sequence[tuple[int, int]], column: float, row: float
) -> tuple[Places, float, float]:
    """Where everything is, and the width and height of the picture.

    The vertices are the boxes, then the pairs' labels, then what the layout adds where an arrow
    passes a row. Each edge leads down from the account that appears first; arrows that lead up take
    the same way.
    """
    places = Places({}, {}, {})
    left, height, added = _MARGIN + column / 2, 0.0, count + len(pairs)
    # The parts of the graph are side by side, in the order of their first accounts.
    for edges in _parts(count, pairs):
        # One part at a time, and numbered from 0: the library's own vertices are numbered after
        # those of their part, also where these are the numbers of another part's.
        own = list(dict.fromkeys(vertex for edge in edges for vertex in edge))
        number = {vertex: position for position, vertex in enumerate(own)}
        [(vertices, width, depth, links)] = from_edges(
            [(number[over], number[under]) for over, under in edges],
            vertex_spacing=1, dummy_vertices=True, dummy_size=_BEND,
        )  # fmt: skip
        start = min(x for _, (x, _) in vertices)

        def key(vertex: int | str, own: list[int] = own, base: int = added) -> int:
            return own[int(vertex)] if int(vertex) < len(own) else int(vertex) + base

        for vertex, (x, y) in vertices:
            places.middle[key(vertex)] = (
                left + (x - start) * column,
                _MARGIN + row / 2 - BETWEEN_ROWS / 2 + (depth - y) * row,
            )
        for over, under in links or ():
            if key(under) >= count:
                places.above[key(under)] = key(over)
            if key(over) >= count:
                places.below[key(over)] = key(under)
        added = max(*places.middle, added)
        left += (width + 1) * column
        height = max(height, (depth + 1) * row - BETWEEN_ROWS)
    return places, left - column / 2 + _MARGIN, height + 2 * _MARGIN


def _parts(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """The edges of each connected part of the graph, from the boxes over the pairs' labels."""
    first = list(range(count))  # an earlier box of the same part, or the box itself

    def root(box: int) -> int:
        return box if first[box] == box else root(first[box])

    for pair in pairs:
        one, other = sorted(map(root, pair))
        first[other] = one
    parts: dict[int, list[tuple[int, int]]] = {}
    for label, (upper, lower) in enumerate(pairs, start=count):
        edges = parts.setdefault(root(upper), [])
        edges.append((upper, label))
        if upper != lower:
            edges.append((label, lower))
    return [parts[box] for box in sorted(parts)]
