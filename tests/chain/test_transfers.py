from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from src.chain.transfers import (
    TRANSFER_TOPIC,
    Transfer,
    decode_transfer,
    decode_transfers,
    normalise_address,
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
    assert decode_transfers([log(removed=True)]) == []


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
    decoded = decode_transfer(token, topics, word(amount), 0)
    assert decoded == Transfer(token, sender, recipient, amount, 0)
