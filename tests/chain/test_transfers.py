from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.transfers import (
    APPROVAL_TOPIC,
    NATIVE_EMITTERS,
    SIMULATION_ADDRESS,
    SYSTEM_ADDRESS,
    TRANSFER_TOPIC,
    UPGRADE_TOPICS,
    NativeTransfer,
    Transfer,
    decode_approvals,
    decode_logs,
    decode_transfer,
    decode_transfers,
    normalise_address,
    upgraded_contracts,
)

TOKEN = "0x" + "aB" * 20
ALICE = "0x" + "11" * 20
BOB = "0x" + "22" * 20


def topic(address: str) -> str:
    return "0x" + "0" * 24 + address[2:]


def word(number: int) -> str:
    return f"0x{number:064x}"


def log(**changes):
    fields = {
        "address": TOKEN,
        "topics": [TRANSFER_TOPIC, topic(ALICE), topic(BOB)],
        "data": word(7),
        "log_index": 3,
    }
    return SimpleNamespace(**{**fields, **changes})


def test_decodes_an_erc20_transfer():
    assert decode_transfers([log()]) == [Transfer(TOKEN.lower(), ALICE, BOB, 7, 3)]


def test_decodes_the_largest_amount_exactly():
    (transfer,) = decode_transfers([log(data=word(2**256 - 1))])
    assert transfer.amount == 2**256 - 1


def test_upper_case_hex_is_the_same_transfer():
    shouted = log(
        topics=["0x" + t[2:].upper() for t in log().topics], data="0x" + word(7)[2:].upper()
    )
    assert decode_transfers([shouted]) == decode_transfers([log()])


def test_four_topics_are_an_erc721_transfer_and_not_ours():
    assert decode_transfers([log(topics=[*log().topics, word(1)], data="0x")]) == []


@pytest.mark.parametrize("indexed", [0, 1, 2])
def test_arguments_that_are_not_indexed_are_in_the_data(indexed):
    words = [topic(ALICE), topic(BOB), word(7)]
    data = "0x" + "".join(one[2:] for one in words[indexed:])
    transfers = decode_transfers([log(topics=[TRANSFER_TOPIC, *words[:indexed]], data=data)])
    assert transfers == decode_transfers([log()])


def test_topics_and_words_of_data_are_four_together():
    words = [topic(ALICE), topic(BOB), word(7), word(8)]
    for indexed in range(4):
        for count in range(5):
            data = "0x" + "".join(one[2:] for one in words[:count])
            topics = [TRANSFER_TOPIC, *words[:indexed]]
            found = decode_transfers([log(topics=topics, data=data)])
            assert len(found) == (indexed < 3 and indexed + count == 3)


def test_logs_of_other_shapes_are_skipped():
    others = [
        log(topics=None),
        log(topics=[]),
        log(topics="0x"),
        log(topics=[TRANSFER_TOPIC, topic(ALICE)]),
        log(topics=[TRANSFER_TOPIC, topic(ALICE), None]),
        log(topics=[TRANSFER_TOPIC[:-1] + "0", topic(ALICE), topic(BOB)]),
        log(topics=[TRANSFER_TOPIC, topic(ALICE)[:-1], topic(BOB)]),
        log(data="0x"),
        log(data=word(7) + "00"),
        log(data=word(7)[:-1]),
        log(data=None),
        log(data="0x" + "g" * 64),
        log(data="0x" + "_1" * 32),
        log(data="0x" + "١" * 64),  # Arabic digits: int() would take them
        log(address=None),
        log(address="0x123"),
        SimpleNamespace(),
    ]
    assert decode_transfers(others) == []


def test_a_log_that_a_reorganisation_removed_is_skipped():
    approval = [APPROVAL_TOPIC, topic(ALICE), topic(BOB)]
    upgrade = [min(UPGRADE_TOPICS)]
    for removed, count in ((False, 1), (True, 0)):
        assert len(decode_transfers([log(removed=removed)])) == count
        assert len(decode_approvals([log(removed=removed, topics=approval)])) == count
        assert len(upgraded_contracts([log(removed=removed, topics=upgrade)])) == count


def test_no_logs_are_no_transfers():
    assert decode_transfers(None) == []
    assert decode_transfers([]) == []


def test_transfers_come_in_log_order_whatever_the_order_of_arrival():
    later, earlier = log(log_index="0x10", data=word(2)), log(log_index="9", data=word(1))
    assert [t.amount for t in decode_transfers([later, earlier])] == [1, 2]


def test_logs_without_an_index_keep_their_order():
    logs = [log(log_index=None, data=word(n)) for n in range(4)]
    assert [t.amount for t in decode_transfers(logs)] == [0, 1, 2, 3]


def test_garbage_in_the_upper_bytes_of_an_address_topic_is_ignored():
    dirty = "0x" + "f" * 24 + ALICE[2:]
    (transfer,) = decode_transfers([log(topics=[TRANSFER_TOPIC, dirty, topic(BOB)])])
    assert transfer.sender == ALICE


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
    st.lists(st.text(), max_size=4), st.dictionaries(st.text(), st.integers(), max_size=2),
)  # fmt: skip
hex_like = st.text(alphabet="0123456789abcdefABCDEFxX_", max_size=70)


@given(
    address=st.one_of(anything, hex_like, st.just(TOKEN)),
    topics=st.one_of(
        anything, st.lists(st.one_of(anything, hex_like, st.just(TRANSFER_TOPIC)), max_size=5)
    ),
    data=st.one_of(anything, hex_like, st.just(word(1))),
    log_index=anything,
)
def test_no_log_can_make_decoding_raise(address, topics, data, log_index):
    hostile = SimpleNamespace(address=address, topics=topics, data=data, log_index=log_index)
    for transfer in decode_transfers([hostile]):
        assert 0 <= transfer.amount < 2**256
        assert isinstance(transfer.log_index, int)
        for account in (transfer.token, transfer.sender, transfer.recipient):
            assert normalise_address(account) == account


@given(
    amount=st.integers(0, 2**256 - 1),
    accounts=st.tuples(*[st.integers(0, 2**160 - 1)] * 3),
)
def test_every_well_formed_transfer_round_trips(amount, accounts):
    token, sender, recipient = (f"0x{number:040x}" for number in accounts)
    topics = [TRANSFER_TOPIC, topic(sender), topic(recipient)]
    transfer = Transfer(token, sender, recipient, amount, 0)
    decoded = decode_transfer(token, topics, word(amount), 0)
    assert decoded == (None if token in NATIVE_EMITTERS else transfer)


@pytest.mark.parametrize(
    "emitter", [*sorted(NATIVE_EMITTERS), SYSTEM_ADDRESS.upper().replace("X", "x")]
)
def test_a_native_transfer_is_never_one_of_a_token(emitter: str) -> None:
    native = log(address=emitter)
    assert decode_logs([native]) == ([], [NativeTransfer(ALICE, BOB, 7, 3)])
    assert decode_transfers([native, log(log_index=4)]) == [
        Transfer(TOKEN.lower(), ALICE, BOB, 7, 4)
    ]
    assert decode_transfer(emitter, native.topics, native.data, 0) is None


def test_a_simulation_and_the_protocol_log_a_native_transfer_once_each_and_it_counts_once() -> None:
    twice = [
        log(address=emitter, data=word(amount), log_index=index)
        for index, (emitter, amount) in enumerate(
            [(SIMULATION_ADDRESS, 7), (SYSTEM_ADDRESS, 7), (SYSTEM_ADDRESS, 7), (SYSTEM_ADDRESS, 9),
             (SIMULATION_ADDRESS, 7), (SIMULATION_ADDRESS, 8)]
        )
    ]  # fmt: skip
    native = decode_logs(twice).native
    assert [(one.amount, one.log_index) for one in native] == [(7, 1), (7, 2), (9, 3), (8, 5)]
    assert [one.amount for one in decode_logs(twice[:1] * 2).native] == [7, 7]  # one emitter: two


def test_a_burn_of_native_currency_is_no_transfer() -> None:
    burn = log(address=SYSTEM_ADDRESS, topics=["0x" + "cc" * 32, topic(ALICE)])
    assert decode_logs([burn]) == ([], [])


@given(st.data())
def test_native_logs_change_no_erc20_transfer(data: st.DataObject) -> None:
    tokens = st.sampled_from([TOKEN, "0x" + "33" * 20])
    amounts = st.integers(0, 2**256 - 1)
    plain = data.draw(st.lists(st.builds(lambda t, a: (t, a), tokens, amounts), max_size=6))
    mixed = list(plain)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(mixed)))
        mixed.insert(at, (data.draw(st.sampled_from(sorted(NATIVE_EMITTERS))), data.draw(amounts)))

    def decoded(rows: list[tuple[str, int]]) -> list[tuple[str, str, str, int]]:
        logs = [log(address=t, data=word(a), log_index=i) for i, (t, a) in enumerate(rows)]
        return [one[:4] for one in decode_transfers(logs)]

    assert decoded(mixed) == decoded(plain)
