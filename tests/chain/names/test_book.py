"""Who an address is: published names, the token list, the operator's own file."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.chain.names.book import PUBLISHED_PATH, AddressBook, AddressName, open_address_book
from src.chain.names.labels import AddressListError
from src.chain.networks import networks
from src.chain.transfers import ZERO_ADDRESS, normalise_address
from src.chain.well_known import WellKnownTokens
from src.decision.policy_file import load_policy
from src.settings import DEFAULT_POLICY_PATH
from tests.conftest import ALICE, BOB, USDC
from tests.support.waiting import wait_until

AAVE = "0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2"
BALANCER = "0xba12222222228d8ba445958a75a0704d566bf2c8"
KINDS = {"router", "pool", "bridge", "exchange", "lender", "mixer", "searcher"}
PUBLISHED = json.loads(PUBLISHED_PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def mainnet() -> Iterator[AddressBook]:
    with closing(open_address_book(1)) as book:
        yield book


def test_names_are_found_by_a_part_shortest_first(mainnet: AddressBook, tmp_path: Path) -> None:
    found = mainnet.find("UNISWAP", 50)
    assert len(found) > 1
    assert all("uniswap" in name.label.casefold() for _, name in found)
    assert all(mainnet.name_of(address) == name for address, name in found)
    assert [len(name.label) for _, name in found] == sorted(len(name.label) for _, name in found)
    assert mainnet.find("uniswap", 1) == found[:1]
    own = tmp_path / "own.csv"
    own.write_text(f"{ALICE},Uni's treasury\n{AAVE},lending\n")
    with closing(open_address_book(1, own)) as book:
        assert [address for address, _ in book.find("treasury", 5)] == [ALICE]
        assert AAVE in [address for address, _ in book.find("lending", 50)]
        assert book.find("reasury", 5) == []
        assert AAVE not in [address for address, _ in book.find("aave v3 pool", 50)]


@pytest.mark.parametrize(
    ("address", "label", "kind", "source"),
    [
        (AAVE, "Aave V3 pool", "lender", "@bgd-labs/aave-address-book 4"),
        (BALANCER, "Balancer V2 vault", "pool", "@balancer/sdk 6"),
        ("0x7a250d5630b4cf539739df2c5dacb4c659f2488d", "Uniswap V2 router", "router", "@uniswap/"),
        ("0x3154cf16ccdb4c6d922629664174b904d80f2c35", "Base bridge", "bridge", "viem 2"),
        ("0xbebc44782c7db0a1a60cb6fe97d0b483032ff1c7", "Curve 3pool", "pool", "@curvefi/api"),
        ("0xbbbbbbbbbb9cc5e90e3b3af64bdaf62c37eeffcb", "Morpho", "lender", "@morpho-org/"),
        ("0x910cbd523d972eb0a6f4cae4618ad62622b39dbf", "Tornado Cash 10 ETH", "mixer", "the mixer"),
        ("0x28c6c06298d514db089934071355e5743bf21d60", "Binance 14", "exchange", "policy.yaml"),
        (USDC, "USDC", "token", "the built-in list"),
        (ZERO_ADDRESS, "zero address", "null", "mints"),
    ],
)
def test_published_names_say_who_says_so(
    mainnet: AddressBook, address: str, label: str, kind: str, source: str
) -> None:
    name = mainnet.name_of(address)
    assert name is not None
    assert (name.label, name.kind) == (label, kind)
    assert name.source.startswith(source)


def test_an_address_that_nobody_has_named_has_no_name(mainnet: AddressBook) -> None:
    assert mainnet.name_of(ALICE) is None
    assert mainnet.name_of(None) is None
    assert open_address_book(424_242).name_of(AAVE) is None


def test_a_name_is_of_one_chain() -> None:
    assert open_address_book(8453).name_of(AAVE) is None


def test_every_entry_is_an_address_with_a_name_and_a_kind() -> None:
    assert {int(chain) for chain in PUBLISHED["names"]} == networks().keys()
    kinds = Counter[str]()
    for names in PUBLISHED["names"].values():
        for address, (label, kind, source) in names.items():
            assert normalise_address(address) == address != ZERO_ADDRESS
            assert label == " ".join(label.split())
            assert 0 < len(label) <= 60
            assert source
            kinds[kind] += 1
    assert kinds.keys() == KINDS


def test_every_address_of_the_shipped_policy_has_its_name_from_there() -> None:
    policy = load_policy(DEFAULT_POLICY_PATH)
    for scope in policy.scopes:
        for chain_id in scope.chains:
            book = open_address_book(chain_id)
            names = [book.name_of(address) for address in scope.addresses]
            assert {name and name.source for name in names} == {"policy.yaml"}


def test_own_names_come_first_and_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.chain.names.labels._FILE_CHECK_SECONDS", 0.01)
    path, changed = tmp_path / "names.csv", tmp_path / "changed.csv"
    path.write_text(f"{AAVE},Our market\n{ALICE},Treasury\x1b[31m\n")
    with closing(open_address_book(1, path)) as book:
        assert book.name_of(AAVE) == AddressName("Our market", "own", "the operator's address book")
        treasury = book.name_of(ALICE)
        assert treasury is not None
        assert treasury.label == "Treasury[31m"
        changed.write_text(f"{BOB},Cold wallet\n")
        changed.replace(path)
        wait_until(lambda: book.name_of(BOB) is not None)
        assert book.name_of(ALICE) is None
        changed.write_text("no address")
        changed.replace(path)
        wait_until(lambda: book.problem() is not None)
        assert "the address book stays as it was" in str(book.problem())
        assert book.name_of(BOB) is not None


@pytest.mark.parametrize("content", ["nonsense", '["0x12"]', None])
def test_a_file_that_is_no_address_book_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "names.csv"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_text(content)
    with pytest.raises(AddressListError):
        open_address_book(1, path)


def test_a_text_gets_the_names_of_its_addresses(mainnet: AddressBook) -> None:
    text = f"{AAVE} loses 3 tokens, {ALICE} gains them in 0x{'ab' * 32}"
    named = f"Aave V3 pool ({AAVE}) loses 3 tokens, {ALICE} gains them in 0x{'ab' * 32}"
    assert mainnet.with_names(text) == mainnet.with_names(named) == named


PARTS = st.lists(
    st.sampled_from([ALICE, BOB, AAVE, "Bob (", "(", ")", " ", "0x", "a" * 38, ALICE[:-1], "Bob"]),
    max_size=6,
).map("".join)


@given(text=PARTS, labels=st.fixed_dictionaries({ALICE: PARTS, BOB: PARTS}))
@example(text=ALICE, labels={ALICE: f"paid by {BOB}", BOB: "Bob"})
@example(text=f"0xaa{ALICE}", labels={ALICE: "a" * 38, f"0x{'a' * 40}": "Bob"})
def test_named_again_a_text_stays_the_same_whatever_labels_say(
    text: str, labels: dict[str, str]
) -> None:
    names = {one: AddressName(label, "own", "a test") for one, label in labels.items() if label}
    named = AddressBook(names, WellKnownTokens({}, {})).with_names(text)
    assert AddressBook(names, WellKnownTokens({}, {})).with_names(named) == named


@given(st.text(st.sampled_from("0x1aB(): \n"), max_size=120))
def test_a_text_without_a_known_address_stays_as_it_is(text: str) -> None:
    assert open_address_book(1).with_names(text) == text
