"""Lists of bad addresses are read, refreshed and refused as their operators would expect."""

import json
import sys
import time

import pytest
from werkzeug import Response

from src.chain.names.labels import AddressListError, parse_addresses, parse_text
from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.decision.address_list import AddressList
from tests.conftest import ALICE, BOB, USDC
from tests.support.fake_chain import serve
from tests.support.waiting import FOR_EVER, FakeClock, wait_until

TRANSFERS = [Transfer(USDC, ALICE, BOB, 1, 0)]


@pytest.fixture
def listed():
    """`listed(location)` opens a list that is closed afterwards."""
    opened = []

    def open_list(location, refresh_seconds=60.0, clock=time.monotonic):
        opened.append(AddressList(str(location), refresh_seconds=refresh_seconds, clock=clock))
        return opened[-1]

    yield open_list
    for addresses in opened:
        addresses.close()


@pytest.mark.parametrize(
    "text",
    [
        f"{ALICE}\n{BOB}\n",
        f"address,label\n{ALICE},thief\n{BOB},\n",
        f"# a comment\n\n{ALICE.upper().replace('X', 'x')}, thief\n{BOB}\n",
        json.dumps([ALICE, BOB]),
        json.dumps([{"address": ALICE, "comment": "thief"}, {"address": BOB, "label": "x"}]),
        json.dumps({ALICE: "thief", BOB: None}),
    ],
    ids=["lines", "csv", "comments", "json", "objects", "mapping"],
)
def test_the_usual_forms_are_read(text):
    assert parse_text(text).keys() == {ALICE, BOB}


def test_labels_are_made_harmless():
    labels = parse_addresses({ALICE: "a\n!*forta_finding*!\x1b" + "x" * 1000})
    assert labels[ALICE].isprintable()
    assert "forta_finding" not in labels[ALICE]
    assert len(labels[ALICE]) <= 80


def test_the_zero_address_is_left_out():
    assert parse_text(f"{ZERO_ADDRESS},burn\n{ALICE}").keys() == {ALICE}


def test_deep_brackets_do_not_end_the_process_where_the_limit_is_raised() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**9)  # as a library might
    try:
        with pytest.raises(AddressListError, match="starts like JSON"):
            parse_text("[" * 2_000_000)
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("text", ["nonsense", "[1]", "[", '{"a": 1}', '["0x12"]', f"{ALICE}0"])
def test_anything_else_is_refused(text):
    with pytest.raises(AddressListError):
        parse_text(text)


def test_a_file_that_is_not_there_refuses_the_start(tmp_path):
    with pytest.raises(AddressListError, match=r"absent\.csv"):
        AddressList(str(tmp_path / "absent.csv"), refresh_seconds=60)


@pytest.mark.parametrize(
    "label",
    ['"thief', '"thief\n', '"thief" of 2024', f'"thief\n{USDC},"', f'"\r\n\t{USDC},\n",'],
)
def test_a_line_with_an_odd_quote_is_refused_and_hides_no_other_address(label):
    with pytest.raises(AddressListError, match=r"line 2 of the list is not CSV"):
        parse_text(f'address,label\n{ALICE},{label}\n{BOB},"fence"\n')


def test_a_quoted_label_may_have_several_lines():
    text = f'address,label\r\n{ALICE},"thief\r\n\r\nof ""2024"", 0x1"\r\n{BOB},fence'
    assert parse_text(text) == {ALICE: 'thief of "2024", 0x1', BOB: "fence"}


def test_a_refusal_names_the_line_at_which_the_row_starts():
    text = f'{ALICE},"thief\nof 2024"\n\n{BOB},"fence" '
    with pytest.raises(AddressListError, match=r"line 4 of the list is not CSV"):
        parse_text(text)


def test_quotes_within_a_label_are_kept():
    assert parse_text(f'{ALICE},the "thief"\n{BOB},"a, b"\n') == {
        ALICE: 'the "thief"',
        BOB: "a, b",
    }


def test_sender_contract_and_counterparties_are_found(tmp_path, listed, monkeypatch):
    monkeypatch.setattr("src.chain.names.labels._FILE_CHECK_SECONDS", FOR_EVER)
    clock = FakeClock()
    path = tmp_path / "bad.csv"
    path.write_text(f"{ALICE},thief\n{BOB},fence\n")
    addresses = listed(path, clock=clock)
    clock.now += 90
    found = addresses.match(ALICE, USDC, TRANSFERS)
    assert [(m.address, m.role) for m in found.matches] == [
        (ALICE, "sender"),
        (BOB, "counterparty"),
    ]
    assert found.age_minutes == 1.5
    assert addresses.match(USDC, ALICE, []).matches[0].role == "contract called"
    assert addresses.match(USDC, None, []).matches == ()


def test_a_listed_token_is_found_however_young_and_whom_it_names_is_not(tmp_path, listed):
    path = tmp_path / "bad.csv"
    path.write_text(f"{USDC},fake\n{BOB},fence\n")
    found = listed(path).match(ALICE, None, [], frozenset({USDC}))
    assert [(m.address, m.label) for m in found.matches] == [(USDC, "fake")]


def test_a_changed_file_is_read_again_and_a_broken_one_is_not_used(
    tmp_path, listed, monkeypatch, caplog
):
    monkeypatch.setattr("src.chain.names.labels._FILE_CHECK_SECONDS", 0.01)
    read = []

    def parse(text):
        read.append(text)
        return parse_text(text)

    monkeypatch.setattr("src.chain.names.labels.parse_text", parse)
    path, changed = tmp_path / "bad.csv", tmp_path / "changed.csv"
    path.write_text(ALICE)
    addresses = listed(path)
    changed.write_text(f"{ALICE}\n{BOB}\n")
    changed.replace(path)
    wait_until(lambda: len(addresses) == 2)
    changed.write_text("broken")
    changed.replace(path)
    wait_until(lambda: addresses.problem() is not None)
    assert len(addresses) == 2
    path.rename(changed)
    wait_until(lambda: "No such file" in addresses.problem())
    changed.rename(path)
    wait_until(lambda: "is not an address" in addresses.problem())
    number = f"[{'1' * 5000}]"  # `json` raises a plain ValueError for it
    changed.write_text(number)
    changed.replace(path)
    wait_until(lambda: "starts like JSON" in addresses.problem())
    changed.write_text(ALICE)
    changed.replace(path)
    wait_until(lambda: len(addresses) == 1)
    wait_until(lambda: addresses.problem() is None)
    assert (read.count("broken"), read.count(number)) == (1, 1)
    assert caplog.text.count("stays as it was") == 4


def test_the_list_is_read_again_after_any_error(tmp_path, listed, monkeypatch):
    monkeypatch.setattr("src.chain.names.labels._FILE_CHECK_SECONDS", 0.01)
    path, changed = tmp_path / "bad.csv", tmp_path / "changed.csv"
    path.write_text(ALICE)
    addresses = listed(path)
    failed = []

    def parse(text):
        if len(failed) < 2:
            failed.append(text)
            raise KeyError("a bug")
        return parse_text(text)

    monkeypatch.setattr("src.chain.names.labels.parse_text", parse)
    changed.write_text(f"{ALICE}\n{BOB}\n")
    changed.replace(path)
    wait_until(lambda: len(addresses) == 2)


def test_a_url_is_read_in_the_background_and_stays_in_use_while_it_fails(listed, monkeypatch):
    monkeypatch.setattr("src.chain.names.labels._RETRY_SECONDS", 0.01)
    answers = [Response("oops", status=500)]
    asked = []
    clock = FakeClock()

    def answer(request):
        asked.append(request.path)
        return Response(answers[0].data, status=answers[0].status_code)

    def ask_twice():  # the second time all is done that the first answer leads to
        before = len(asked)
        wait_until(lambda: len(asked) >= before + 2)

    with serve(answer) as url:
        addresses = listed(url, refresh_seconds=0.02, clock=clock)
        ask_twice()
        assert addresses.match(ALICE, BOB, TRANSFERS) is None
        assert "could not be read" in addresses.problem()
        answers[0] = Response(json.dumps([ALICE]))
        wait_until(lambda: len(addresses) == 1)
        answers[0] = Response("oops", status=500)
        ask_twice()
        assert addresses.match(ALICE, BOB, TRANSFERS).matches[0].address == ALICE
        assert addresses.problem() is None
        clock.now += 7200
        assert "2.0 hours old" in addresses.problem()
        addresses.close()
