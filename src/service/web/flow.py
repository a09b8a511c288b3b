"""The flow of tokens between accounts as a layered graph. Pure, and the same on every run.

The method of Sugiyama, Tagawa and Toda (1981): accounts are assigned to columns so that most
transfers run from left to right; backward edges are reversed for the layout; long edges get dummy
nodes in the columns between; the order within a column follows the neighbours' mean position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from src.chain.text import short
from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.decision.tokens import TokenView, decimals_of, label_of
from src.service.formatting import amount

MAX_ACCOUNTS = 24
MAX_MOVES = 60

_NODE_WIDTH = 148.0
_COLUMN = 385.0
_PORT = 19.0
_MIN_HEIGHT = 44.0
_GAP = 30.0
_MARGIN = 16.0
_SWEEPS = 6
_MAX_SYMBOL = 14


@dataclass(frozen=True, slots=True)
class Box:
    """An account.

    Attributes:
        label: short address, or a description.
        role: sender, contract, zero or other; determines the colour.
        note: the role in words, "" for an ordinary account.
    """

    address: str
    x: float
    y: float
    width: float
    height: float
    label: str
    role: str
    note: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """One or more transfers of one token between the same two accounts.

    Attributes:
        path: SVG path data, from payer to payee.
        label_x, label_y: middle of the label.
        label: amount and token.
        color: number of the token's colour.
        title: the same in full.
    """

    path: str
    label_x: float
    label_y: float
    label: str
    color: int
    title: str


@dataclass(frozen=True, slots=True)
class Flow:
    """The laid-out graph.

    Attributes:
        tokens: (colour, name) of each token, for the legend.
        left_out: transfers that do not fit into the graph; the table lists them.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    tokens: tuple[tuple[int, str], ...]
    width: float
    height: float
    left_out: int


@dataclass(slots=True)
class _Move:
    """Transfers of one token between the same two accounts, merged."""

    payer: str
    payee: str
    token: str
    raw: int
    steps: list[int]


@dataclass(slots=True)
class _Stop:
    """A node in a column: an account, or a dummy node of a long edge."""

    key: str
    column: int
    account: str | None
    left: int = 0
    right: int = 0
    y: float = 0.0

    @property
    def height(self) -> float:
        if self.account is None:
            return _PORT
        return max(_MIN_HEIGHT, _PORT * max(self.left, self.right) + 12)


def lay_out(
    transfers: Sequence[Transfer],
    tokens: Mapping[str, TokenView],
    *,
    sender: str | None,
    to: str | None,
) -> Flow:
    """Lay out the transfers of one transaction.

    Args:
        transfers: in log order.
        tokens: token metadata by address.
        sender: of the transaction.
        to: the called address, None for a contract creation.
    """
    moves, left_out = _moves(transfers)
    columns = _columns(moves)
    stops = {a: _Stop(a, column, a) for a, column in columns.items()}
    chains = [_chain(number, move, stops) for number, move in enumerate(moves)]
    order = _ordered(stops, chains)
    for chain in chains:
        for near, far in pairwise(chain):
            stops[near].right += 1
            stops[far].left += 1
    height = _place(stops, order)
    colors = {a: i for i, a in enumerate(dict.fromkeys(move.token for move in moves))}
    boxes = tuple(_box(stop, sender, to) for stop in stops.values() if stop.account is not None)
    width = 2 * _MARGIN + _COLUMN * (len(order) - 1) + _NODE_WIDTH if order else 0.0
    return Flow(
        boxes=boxes,
        arrows=tuple(_arrows(moves, chains, stops, tokens, colors)),
        tokens=tuple((color, _name(a, tokens)) for a, color in colors.items()),
        width=width,
        height=height,
        left_out=left_out,
    )


def _moves(transfers: Sequence[Transfer]) -> tuple[list[_Move], int]:
    """Transfers grouped by accounts and token, as many as fit."""
    found: dict[tuple[str, str, str], _Move] = {}
    accounts: dict[str, None] = {}
    left_out = 0
    for step, one in enumerate(transfers, start=1):
        key = (one.sender, one.recipient, one.token)
        if key in found:
            found[key].raw += one.amount
            found[key].steps.append(step)
            continue
        new = {one.sender, one.recipient} - accounts.keys()
        if len(accounts) + len(new) > MAX_ACCOUNTS or len(found) >= MAX_MOVES:
            left_out += 1
            continue
        accounts.update(dict.fromkeys((one.sender, one.recipient)))
        found[key] = _Move(one.sender, one.recipient, one.token, one.amount, [step])
    return list(found.values()), left_out


def _columns(moves: Sequence[_Move]) -> dict[str, int]:
    """The column of each account: the longest path to it, accounts in order of first appearance."""
    seen: dict[str, None] = {}
    for move in moves:
        seen.update(dict.fromkeys((move.payer, move.payee)))
    rank = {account: position for position, account in enumerate(seen)}
    columns = dict.fromkeys(rank, 0)
    for account in seen:
        for move in moves:
            if move.payer == account and rank[move.payee] > rank[account]:
                columns[move.payee] = max(columns[move.payee], columns[account] + 1)
            if move.payee == account and rank[move.payer] > rank[account]:
                columns[move.payer] = max(columns[move.payer], columns[account] + 1)
    return columns


def _chain(number: int, move: _Move, stops: dict[str, _Stop]) -> list[str]:
    """The nodes of an edge from left to right, with new dummy nodes; empty for a self-loop."""
    ends = sorted((stops[move.payer], stops[move.payee]), key=lambda stop: stop.column)
    first, last = ends
    if first.column == last.column:
        return []
    chain = [first.key]
    for column in range(first.column + 1, last.column):
        key = f"{number}/{column}"
        stops[key] = _Stop(key, column, None)
        chain.append(key)
    return [*chain, last.key]


def _ordered(stops: Mapping[str, _Stop], chains: Sequence[Sequence[str]]) -> list[list[str]]:
    """The nodes of each column from top to bottom, with few crossings."""
    depth = max((stop.column for stop in stops.values()), default=-1) + 1
    order: list[list[str]] = [[] for _ in range(depth)]
    for stop in stops.values():
        order[stop.column].append(stop.key)
    before: dict[str, list[str]] = {key: [] for key in stops}
    after: dict[str, list[str]] = {key: [] for key in stops}
    for chain in chains:
        for near, far in pairwise(chain):
            after[near].append(far)
            before[far].append(near)
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        neighbours = before if forwards else after
        for column in range(1, depth) if forwards else range(depth - 2, -1, -1):
            beside = order[column - 1 if forwards else column + 1]
            place = {key: position for position, key in enumerate(beside)}
            order[column] = _by_neighbours(order[column], neighbours, place)
    return order


def _by_neighbours(
    column: Sequence[str], neighbours: Mapping[str, Sequence[str]], place: Mapping[str, int]
) -> list[str]:
    """A column ordered by the neighbours' mean position, or by its own if there are none."""
    means = {}
    for position, key in enumerate(column):
        known = [place[other] for other in neighbours[key]]
        means[key] = sum(known) / len(known) if known else float(position)
    return sorted(column, key=means.__getitem__)


def _place(stops: Mapping[str, _Stop], order: Sequence[Sequence[str]]) -> float:
    """Set the nodes' heights, each column centred; returns the total height."""
    heights = [
        sum(stops[key].height for key in column) + _GAP * (len(column) - 1) for column in order
    ]
    whole = max(heights, default=0.0)
    for column, height in zip(order, heights, strict=True):
        y = _MARGIN + (whole - height) / 2
        for key in column:
            stops[key].y = y
            y += stops[key].height + _GAP
    return whole + 2 * _MARGIN


def _arrows(
    moves: Sequence[_Move],
    chains: Sequence[Sequence[str]],
    stops: Mapping[str, _Stop],
    tokens: Mapping[str, TokenView],
    colors: Mapping[str, int],
) -> list[Arrow]:
    ports = _ports(chains, stops)
    arrows = []
    for number, (move, chain) in enumerate(zip(moves, chains, strict=True)):
        if chain:
            points = _points(number, chain, stops, ports)
            middle = (len(points) // 2 - 1) // 2 * 2
            (x1, y1), (x2, y2) = points[middle], points[middle + 1]
            if stops[move.payer].column > stops[move.payee].column:
                points.reverse()
            path = _curve(points)
        else:
            stop = stops[move.payer]
            x1 = x2 = _x(stop) + _NODE_WIDTH / 2
            y1 = y2 = stop.y - 10
            path = f"M{x1 - 18:.1f},{stop.y:.1f} c-10,-26 46,-26 36,0"
        label = _label(move, tokens)
        arrows.append(
            Arrow(
                path=path,
                label_x=(x1 + x2) / 2,
                label_y=(y1 + y2) / 2,
                label=f"{_steps(move.steps)} {label}",
                color=colors[move.token],
                title=f"{move.payer} → {move.payee}: {label}",
            )
        )
    return arrows


def _ports(
    chains: Sequence[Sequence[str]], stops: Mapping[str, _Stop]
) -> dict[tuple[int, str, str], float]:
    """The height at which each edge leaves (R) or reaches (L) a node, ordered by its other end."""
    sides: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for number, chain in enumerate(chains):
        for near, far in pairwise(chain):
            sides.setdefault((near, "R"), []).append((_middle(stops[far]), number))
            sides.setdefault((far, "L"), []).append((_middle(stops[near]), number))
    ports = {}
    for (key, side), ends in sides.items():
        start = _middle(stops[key]) - _PORT * (len(ends) - 1) / 2
        for position, (_, number) in enumerate(sorted(ends)):
            ports[number, key, side] = start + _PORT * position
    return ports


def _points(
    number: int,
    chain: Sequence[str],
    stops: Mapping[str, _Stop],
    ports: Mapping[tuple[int, str, str], float],
) -> list[tuple[float, float]]:
    """Pairs of points from left to right: from one node into the next."""
    points = []
    for near, far in pairwise(chain):
        points.append((_x(stops[near]) + _NODE_WIDTH, ports[number, near, "R"]))
        points.append((_x(stops[far]), ports[number, far, "L"]))
    return points


def _curve(points: Sequence[tuple[float, float]]) -> str:
    parts = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for position, ((x1, y1), (x2, y2)) in enumerate(pairwise(points)):
        if position % 2:  # through a dummy node
            parts.append(f"L{x2:.1f},{y2:.1f}")
        else:
            middle = (x1 + x2) / 2
            parts.append(f"C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}")
    return " ".join(parts)


def _box(stop: _Stop, sender: str | None, to: str | None) -> Box:
    address = stop.key
    role, note = "other", ""
    if address == ZERO_ADDRESS:
        role, note = "zero", "mints and burns"
    elif address == sender:
        role, note = "sender", "sender"
    elif address == to:
        role, note = "contract", "called contract"
    return Box(address, _x(stop), stop.y, _NODE_WIDTH, stop.height, short(address), role, note)


def _x(stop: _Stop) -> float:
    return _MARGIN + _COLUMN * stop.column


def _middle(stop: _Stop) -> float:
    return stop.y + stop.height / 2


def _label(move: _Move, tokens: Mapping[str, TokenView]) -> str:
    decimals = decimals_of(move.token, tokens)
    return f"{amount(move.raw, decimals)} {_name(move.token, tokens)}"


def _name(address: str, tokens: Mapping[str, TokenView]) -> str:
    """A token's label, shortened to fit."""
    token = tokens.get(address)
    if token is not None and len(token.symbol) > _MAX_SYMBOL:
        token = replace(token, symbol=f"{token.symbol[: _MAX_SYMBOL - 1]}…")
    return label_of(address, token, written=short(address))


def _steps(steps: Sequence[int]) -> str:
    """The position of the first transfer, and the number of merged transfers."""
    return f"#{steps[0]}" if len(steps) == 1 else f"#{steps[0]} ({len(steps)}×)"
