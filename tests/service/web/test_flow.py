"""The picture of the flow: all transfers are in it, nothing overlaps, and a browser can walk it."""

import re
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.decision.tokens import TokenView
from src.service.web.flow import MAX_ACCOUNTS, MAX_WIDTH, Arrow, Box, Flow, lay_out
from tests.service.web.browsing import quiet_page, theft

ADDRESSES = ["0x" + f"{i:02x}" * 20 for i in range(1, 41)]
A, B, C, D = ADDRESSES[:4]
accounts = st.sampled_from([*ADDRESSES, ZERO_ADDRESS])

transfers = st.lists(
    st.builds(
        Transfer,
        token=st.sampled_from(ADDRESSES[:5]),
        sender=accounts,
        recipient=accounts,
        amount=st.integers(0, 2**256 - 1),
        log_index=st.integers(0, 10_000),
    ),
    max_size=60,
)
few_accounts = transfers.map(
    lambda some: [
        Transfer(t.token, ADDRESSES[int(t.sender, 16) % 7], ADDRESSES[int(t.recipient, 16) % 7],
                 t.amount, t.log_index)
        for t in some
    ]
)  # fmt: skip


def drawn(some: list[Transfer], *, sender: str | None = A, to: str | None = B) -> Flow:
    return lay_out(some, {}, sender=sender, to=to)


def sides(one: Box | Arrow) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a box or a label; a character is at least 5 px wide."""
    if isinstance(one, Box):
        return one.x, one.x + one.width, one.y, one.y + one.height
    half = max(len(line.text) for line in one.lines) * 5 / 2
    x, ys = one.lines[0].x, [line.y for line in one.lines]
    return x - half, x + half, min(ys) - 6.5, max(ys) + 6.5


@settings(deadline=None)
@given(transfers | few_accounts)
def test_boxes_and_labels_stay_inside_and_never_overlap(some: list[Transfer]) -> None:
    flow = drawn(some)
    places = [sides(one) for one in (*flow.boxes, *flow.arrows)]
    for left, right, top, bottom in places:
        assert 0 <= left < right <= flow.width
        assert 0 <= top < bottom <= flow.height
    for one, other in combinations(places, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]


@settings(deadline=None)
@given(transfers | few_accounts)
def test_every_account_and_every_transfer_has_its_place(some: list[Transfer]) -> None:
    flow = drawn(some)
    shown = [account for box in flow.boxes for account in box.accounts]
    assert sorted(shown) == sorted({a for t in some for a in (t.sender, t.recipient)})
    assert len(flow.boxes) <= MAX_ACCOUNTS
    assert sorted(n for arrow in flow.arrows for n in arrow.steps) == list(range(1, len(some) + 1))
    for arrow in flow.arrows:
        for step in arrow.steps:
            assert some[step - 1].sender in flow.boxes[arrow.payer].accounts
            assert some[step - 1].recipient in flow.boxes[arrow.payee].accounts


@settings(deadline=None)
@given(transfers)
def test_the_same_transfers_give_the_same_picture(some: list[Transfer]) -> None:
    assert drawn(list(some)) == drawn(some)


@settings(deadline=None)
@given(few_accounts)
def test_an_arrow_leads_from_its_payer_to_its_payee(some: list[Transfer]) -> None:
    flow = drawn(some)
    for arrow in flow.arrows:
        numbers = [float(number) for number in re.findall(r"-?\d+\.\d", arrow.path)]
        payer, payee = flow.boxes[arrow.payer], flow.boxes[arrow.payee]
        if payer is not payee:
            assert payer.x < numbers[0] < payer.x + payer.width
            assert payee.x < numbers[-2] < payee.x + payee.width
            assert round(numbers[1], 1) in (round(payer.y, 1), round(payer.y + payer.height, 1))
            assert round(numbers[-1], 1) in (round(payee.y, 1), round(payee.y + payee.height, 1))


def test_parts_of_the_graph_do_not_mix_up_what_the_layout_adds() -> None:
    """An arrow past a row in one part, and other parts: this once looped for ever."""
    pairs = (
        (1, 1), (3, 7), (12, 3), (4, 6), (2, 4), (3, 2), (2, 8), (12, 7), (4, 6), (9, 9), (12, 5),
        (2, 5),
    )  # fmt: skip
    some = [
        Transfer(A, ADDRESSES[payer], ADDRESSES[payee], 1, index)
        for index, (payer, payee) in enumerate(pairs)
    ]
    flow = drawn(some, sender=ADDRESSES[0], to=ADDRESSES[1])
    assert sorted(n for arrow in flow.arrows for n in arrow.steps) == list(range(1, 13))


def test_money_runs_downwards_from_the_first_payer() -> None:
    chain = [Transfer(A, A, B, 1, 0), Transfer(A, B, C, 1, 1), Transfer(A, C, A, 1, 2)]
    y = {box.accounts[0]: box.y for box in drawn(chain).boxes}
    assert y[A] < y[B] < y[C]


def test_the_recipients_of_an_airdrop_are_drawn_as_one() -> None:
    drop = [Transfer(A, B, f"0x{i:040x}", 25, i) for i in range(1, 301)]
    flow = lay_out(drop, {A: TokenView(A, "Drop", "DROP", 0)}, sender=C, to=B)
    assert [(box.role, box.note) for box in flow.boxes] == [
        ("contract", "called contract"),
        ("group", "300 accounts"),
    ]
    [arrow] = flow.arrows
    assert [line.text for line in arrow.lines] == ["↓ #1 (300×) 7,500 DROP"]


def test_a_wide_picture_shows_the_busiest_accounts_and_those_of_the_transaction() -> None:
    busy = [Transfer(A, C, D, 1, i) for i in range(200)]
    mesh = [
        Transfer(A, payer, payee, 1, 100 * i + j)
        for i, payer in enumerate(ADDRESSES[4:])
        for j, payee in enumerate(ADDRESSES[4:])
        if (i * j) % 7 == 1
    ]
    flow = drawn([*mesh, *busy, Transfer(A, A, B, 1, 0)])
    alone = {box.accounts[0] for box in flow.boxes if len(box.accounts) == 1}
    assert {A, B, C, D} <= alone
    assert flow.width <= MAX_WIDTH or len(flow.boxes) <= 6


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_a_label_names_three_tokens_and_counts_the_others(count: int) -> None:
    [arrow] = drawn([Transfer(token, A, B, 1, 0) for token in ADDRESSES[:count]]).arrows
    last = arrow.lines[-1].text
    assert len(arrow.lines) == min(count, 3) + (count > 3)
    assert last == {4: "and 1 more token", 5: "and 2 more tokens"}.get(count, last)


def test_no_transfers_no_picture() -> None:
    assert drawn([]).boxes == ()


def lit(page: Page) -> tuple[int, int]:
    return page.locator("g.account.on").count(), page.locator("g.amount.on").count()


def test_a_browser_steps_through_the_transfers_in_order(page: Page, demo: str) -> None:
    page.goto(f"{demo}/ui/transactions/{theft(demo)}")
    said = page.locator(".flow-tools output")
    for number, amount in ((1, "5,000 WETH"), (2, "5,000,000 USDC")):
        page.get_by_role("button", name="Next transfer").click()
        expect(said).to_contain_text(f"Transfer {number} of ")
        expect(said).to_contain_text(amount)
        assert lit(page) == (2, 1)
        steps = page.locator("g.amount.on").get_attribute("data-steps")
        assert str(number) in str(steps).split()
    page.get_by_role("button", name="Previous").click()
    expect(said).to_contain_text("Transfer 1 of ")
    page.get_by_role("button", name="Show all").click()
    assert lit(page) == (0, 0)
    assert page.locator("svg.flow.dim").count() == 0


def test_a_browser_follows_an_account_s_money(page: Page, demo: str) -> None:
    page.goto(f"{demo}/ui/transactions/{theft(demo)}")
    first = page.locator("g.account").first
    first.click()
    expect(page.locator(".flow-tools output")).to_contain_text("Where money of")
    accounts, arrows = lit(page)
    assert accounts >= 2
    assert arrows >= 1
    page.keyboard.press("Escape")
    assert lit(page) == (0, 0)
    first.focus()
    page.keyboard.press("Enter")
    assert lit(page) == (accounts, arrows)


def test_a_browser_zooms_and_pans(page: Page, demo: str) -> None:
    page.goto(f"{demo}/ui/transactions/{theft(demo)}")
    svg = page.locator("svg.flow")

    def width() -> float:
        return float(svg.get_attribute("width") or 0)

    before = width()
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    assert width() == pytest.approx(before * 1.25**2)
    page.get_by_role("button", name="Zoom out").click()
    assert width() == pytest.approx(before * 1.25)
    pane = page.locator(".flow-pane")
    pane.hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    expect(svg).not_to_have_attribute("width", str(before * 1.25))
    page.get_by_role("button", name="Fit").click()
    assert width() <= pane.evaluate("one => one.clientWidth")

    # Held by the mouse, the picture moves along.
    for _ in range(8):
        page.get_by_role("button", name="Zoom in").click()
    corner, before_drag = (
        pane.bounding_box(),
        pane.evaluate("one => [one.scrollLeft, one.scrollTop]"),
    )
    assert corner is not None
    page.mouse.move(corner["x"] + 200, corner["y"] + 200)
    page.mouse.down()
    page.mouse.move(corner["x"] + 140, corner["y"] + 170, steps=3)
    page.mouse.up()
    page.mouse.move(corner["x"] + 20, corner["y"] + 20)  # let go of: it stays
    after_drag = pane.evaluate("one => [one.scrollLeft, one.scrollTop]")
    assert [b - a for a, b in zip(before_drag, after_drag, strict=True)] == [60, 30]


@pytest.mark.parametrize("width", [1440, 390])
def test_without_scripts_the_whole_picture_is_there(
    browser: Browser, demo: str, width: int
) -> None:
    size = {"width": width, "height": 900}
    with quiet_page(browser, java_script_enabled=False, viewport=size) as page:
        page.goto(f"{demo}/ui/transactions/{theft(demo)}")
        assert page.locator(".flow-tools").is_hidden()
        assert page.locator("g.account").count() >= 3
        pane = page.locator(".flow-pane").bounding_box()
        assert pane is not None
        assert pane["width"] <= width
