"""The flow of tokens between accounts, laid out from top to bottom. Pure, and always the same.

The layout is fast-sugiyama's (Sugiyama, Tagawa and Toda, 1981). What two accounts exchange has a
label, which is a vertex of the laid-out graph, as the accounts are, and arrows turn between the
rows: nothing overlaps.
Accounts with the same counterparties, such as the recipients of an airdrop, are drawn as one, and
so is what exceeds the limits: every transfer has its place in the picture.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from src.chain.text import short
from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.decision.tokens import TokenView, decimals_of, label_of
from src.service.formatting import amount
from src.service.web.flow_layout import BETWEEN_ROWS, Places, placed

MAX_ACCOUNTS: Final = 24
MAX_WIDTH: Final = 2_800.0
MIN_GROUP: Final = 4

_MIN_ACCOUNTS = 6
_MAX_TOKENS = 3  # in one label
_MAX_SYMBOL = 14
_BOX_WIDTH, _BOX_HEIGHT = 152.0, 44.0
_CHARACTER, _LINE = 6.6, 14.0  # the size of a label's character, about
_GAP = 22.0
_PORTS = 0.8  # of a box's width, where arrows end
_ASIDE = 5.0  # from the middle of a label, for arrows that pass it in both directions


@dataclass(frozen=True, slots=True)
class Box:
    """One account, or several that deal alike."""

    id: int  # of the box in the picture
    accounts: tuple[str, ...]  # in order of appearance
    x: float
    y: float
    width: float
    height: float
    role: str  # sender, contract, zero, group or other; determines the colour
    note: str  # the role in words, "" for an ordinary account


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a label, at its place; `color` is the number of its token's colour."""

    text: str
    x: float
    y: float
    color: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """All transfers from one box to another."""

    # payer, payee: ids of their boxes.
    payer: int
    payee: int
    steps: tuple[int, ...]  # the transfers' positions in the transaction, from 1
    amounts: tuple[str, ...]  # what each of them moves
    path: str  # SVG path data, from payer to payee
    lines: tuple[Line, ...]  # the label: which transfers, and how much of which tokens
    color: int  # of its first token


@dataclass(frozen=True, slots=True)
class Flow:
    """The laid-out graph."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    tokens: tuple[tuple[int, str], ...]  # (colour, name) of each token, for the legend
    width: float
    height: float


@dataclass(slots=True)
class _Move:
    """Transfers from one box to another; raw amounts by token."""

    payer: int
    payee: int
    tokens: Counter[str] = field(default_factory=Counter)
    steps: list[int] = field(default_factory=list)

    @property
    def pair(self) -> tuple[int, int]:
        """The upper and the lower box."""
        return min(self.payer, self.payee), max(self.payer, self.payee)


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
    kept = [account for account in (sender, to, ZERO_ADDRESS) if account]
    boxes, limit = _alike(transfers, kept), MAX_ACCOUNTS
    while True:
        shown = _at_most(limit, boxes, transfers, kept)
        flow = _drawn(shown, transfers, tokens, sender, to)
        if flow.width <= MAX_WIDTH or limit <= _MIN_ACCOUNTS:
            return flow
        limit -= limit // 4


def _drawn(
    accounts: Sequence[tuple[str, ...]],
    transfers: Sequence[Transfer],
    tokens: Mapping[str, TokenView],
    sender: str | None,
    to: str | None,
) -> Flow:
    """The flow between these boxes."""
    moves = _moves(transfers, accounts)
    pairs: dict[tuple[int, int], list[_Move]] = {}
    for move in moves:
        pairs.setdefault(move.pair, []).append(move)
    names = {token: _name(token, tokens) for token in dict.fromkeys(one.token for one in transfers)}
    colors = {token: number for number, token in enumerate(names)}

    def quantity(raw: int, token: str) -> str:
        return f"{amount(raw, decimals_of(token, tokens))} {names[token]}"

    labels = [[_label(move, quantity) for move in pair] for pair in pairs.values()]
    texts = [text for label in labels for part in label for text, _ in part]
    column = max([_BOX_WIDTH, *map(_width, texts)]) + _GAP
    row = max([_BOX_HEIGHT + _LINE, *(_LINE * sum(map(len, label)) for label in labels)])
    places, width, height = placed(len(accounts), list(pairs), column, row + BETWEEN_ROWS)
    boxes = []
    for number, members in enumerate(accounts):
        x, y = places.middle[number]
        corner = x - _BOX_WIDTH / 2, y - _BOX_HEIGHT / 2
        role, note = _role(members, sender, to)
        boxes.append(Box(number, members, *corner, _BOX_WIDTH, _BOX_HEIGHT, role, note))
    paths = iter(_paths(len(accounts), list(pairs.values()), places, row / 2))
    arrows = []
    for number, (pair, label) in enumerate(zip(pairs.values(), labels, strict=True)):
        x, y = places.middle[len(accounts) + number]
        y -= _LINE * (sum(map(len, label)) - 1) / 2
        for move, part in zip(pair, label, strict=True):
            lines = []
            for text, token in part:
                lines.append(Line(text, x, y, colors[token]))
                y += _LINE
            amounts = tuple(
                quantity(one.amount, one.token)
                for one in (transfers[step - 1] for step in move.steps)
            )
            arrows.append(
                Arrow(
                    move.payer, move.payee, tuple(move.steps), amounts, next(paths), tuple(lines),
                    colors[next(iter(move.tokens))],
                )
            )  # fmt: skip
    legend = tuple((color, names[token]) for token, color in colors.items())
    return Flow(tuple(boxes), tuple(arrows), legend, width, height)


def _alike(transfers: Sequence[Transfer], kept: Sequence[str]) -> list[tuple[str, ...]]:
    """Accounts in order of appearance; those that deal with the same accounts are together."""
    dealings: dict[str, set[tuple[str, str, str]]] = {}
    for one in transfers:
        dealings.setdefault(one.sender, set()).add(("pays", one.recipient, one.token))
        dealings.setdefault(one.recipient, set()).add(("is paid by", one.sender, one.token))
    groups: dict[object, list[str]] = {}
    for account, own in dealings.items():
        groups.setdefault(account if account in kept else frozenset(own), []).append(account)
    boxes: list[tuple[str, ...]] = []
    for group in groups.values():
        boxes += [tuple(group)] if len(group) >= MIN_GROUP else [(account,) for account in group]
    order = {account: position for position, account in enumerate(dealings)}
    return sorted(boxes, key=lambda box: order[box[0]])


def _at_most(
    limit: int,
    boxes: Sequence[tuple[str, ...]],
    transfers: Sequence[Transfer],
    kept: Sequence[str],
) -> list[tuple[str, ...]]:
    """The boxes with the most transfers; the accounts of all others become one."""
    if len(boxes) <= limit:
        return list(boxes)
    counts = Counter([account for one in transfers for account in (one.sender, one.recipient)])
    ranked = sorted(
        boxes, key=lambda box: (box[0] not in kept, -sum(counts[account] for account in box))
    )
    shown = set(ranked[: limit - 1])
    rest = tuple(account for box in boxes if box not in shown for account in box)
    return [*(box for box in boxes if box in shown), rest]


def _moves(transfers: Sequence[Transfer], boxes: Sequence[tuple[str, ...]]) -> list[_Move]:
    """The transfers by payer and payee."""
    box_of = {account: number for number, box in enumerate(boxes) for account in box}
    moves: dict[tuple[int, int], _Move] = {}
    for step, one in enumerate(transfers, start=1):
        payer, payee = box_of[one.sender], box_of[one.recipient]
        move = moves.setdefault((payer, payee), _Move(payer, payee))
        move.tokens[one.token] += one.amount
        move.steps.append(step)
    return list(moves.values())


def _paths(count: int, pairs: Sequence[Sequence[_Move]], places: Places, half: float) -> list[str]:
    """The arrows' paths, from payer to payee; `half` of a row's height is above its middle."""
    ways: list[tuple[_Move, list[int], float]] = []
    for label, pair in enumerate(pairs, start=count):
        for number, move in enumerate(pair):
            ways.append((move, places.way(label), _ASIDE * (2 * number - 1) * (len(pair) - 1)))
    ports = _ports([(way, aside) for _, way, aside in ways], places)
    paths = []
    for number, (move, way, aside) in enumerate(ways):
        x, y = ports[number, way[0]], places.middle[way[0]][1]
        if move.payer == move.payee:
            paths.append(f"M{x - 8:.1f},{y + _BOX_HEIGHT / 2:.1f} c-16,34 32,34 16,0")
            continue
        points = [(x, y + _BOX_HEIGHT / 2), (x, y + half)]
        for vertex in way[1:-1]:
            x, y = places.middle[vertex]
            points += [(x + aside, y - half), (x + aside, y + half)]
        x, y = ports[number, way[-1]], places.middle[way[-1]][1]
        points += [(x, y - half), (x, y - _BOX_HEIGHT / 2)]
        paths.append(_curve(points if move.payer == way[0] else points[::-1]))
    return paths


def _ports(
    ways: Sequence[tuple[Sequence[int], float]], places: Places
) -> dict[tuple[int, int], float]:
    """Where each arrow ends at its boxes, from left to right as the arrows arrive."""
    sides: dict[tuple[int, bool], list[tuple[float, int]]] = {}
    for number, (way, aside) in enumerate(ways):
        for box, beside, is_bottom in ((way[0], way[1], True), (way[-1], way[-2], False)):
            if is_bottom or len(way) > 2:
                x = places.middle[beside][0] + aside
                sides.setdefault((box, is_bottom), []).append((x, number))
    ports = {}
    for (box, _), ends in sides.items():
        step = _PORTS * _BOX_WIDTH / len(ends)
        start = places.middle[box][0] - step * (len(ends) - 1) / 2
        for position, (_, number) in enumerate(sorted(ends)):
            ports[number, box] = start + step * position
    return ports


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Straight through the rows, curved between them."""
    parts = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for position, ((x1, y1), (x2, y2)) in enumerate(pairwise(points)):
        if position % 2:
            middle = (y1 + y2) / 2
            parts.append(f"C{x1:.1f},{middle:.1f} {x2:.1f},{middle:.1f} {x2:.1f},{y2:.1f}")
        else:
            parts.append(f"L{x2:.1f},{y2:.1f}")
    return " ".join(parts)


def _role(accounts: Sequence[str], sender: str | None, to: str | None) -> tuple[str, str]:
    """The role of a box, and its words."""
    if len(accounts) > 1:
        return "group", f"{len(accounts)} accounts"
    if accounts[0] == ZERO_ADDRESS:
        return "zero", "mints and burns"
    if accounts[0] == sender:
        return "sender", "sender"
    return ("contract", "called contract") if accounts[0] == to else ("other", "")


def _label(move: _Move, quantity: Callable[[int, str], str]) -> list[tuple[str, str]]:
    """The lines of an arrow's label, each with the token whose colour it has."""
    way = "↓" if move.payer < move.payee else "↑" if move.payer > move.payee else "↻"
    times = f" ({len(move.steps)}×)" if len(move.steps) > 1 else ""
    shown = list(move.tokens.items())[:_MAX_TOKENS]
    lines = [(quantity(raw, token), token) for token, raw in shown]
    first, token = lines[0]
    lines[0] = (f"{way} #{move.steps[0]}{times} {first}", token)
    if (more := len(move.tokens) - _MAX_TOKENS) > 0:
        lines.append((f"and {more} more token{'' if more == 1 else 's'}", lines[-1][1]))
    return lines


def _name(address: str, tokens: Mapping[str, TokenView]) -> str:
    """A token's label, shortened to fit."""
    token = tokens.get(address)
    if token is not None and len(token.symbol) > _MAX_SYMBOL:
        token = replace(token, symbol=f"{token.symbol[: _MAX_SYMBOL - 1]}…")
    return label_of(address, token, written=short(address))


def _width(text: str) -> float:
    """About the width of a label's line; most scripts of East Asia are twice as wide as Latin."""
    return _CHARACTER * sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
