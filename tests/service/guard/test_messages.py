"""Messages are read so strictly that no parser can find another call in what is passed on."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.service.guard.messages import MAX_CALLS, MAX_VALUES, Call, Malformed, merged, read_request


def read(text: str) -> Call:
    (call,) = read_request(text.encode()).calls
    return call


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b'{"method":"eth_call","method":"eth_sendRawTransaction"}',
        b'{"method":"eth_call","params":[{"a":1,"a":2}]}',
        b'{"method":"eth_call","\\u006dethod":"eth_sendRawTransaction"}',
        b'{"method":"eth_call"} {"method":"eth_sendRawTransaction"}',
        b'[{"method":"eth_call"}]]',
        b'[{"method":"eth_call"},]',
        b'[,{"method":"eth_call"}]',
        b'[{"method":"eth_call"} {"method":"eth_call"}]',
        b'{"method":"eth_call","params":[NaN]}',
        b'{"method":"eth_call","params":[-Infinity]}',
        b'{"method":"eth_call","params":[01]}',
        b'{"method":"eth_call"}\x00',
        b'\xef\xbb\xbf{"method":"eth_call"}',
        b'{"method":"eth_call\xff"}',
        b'{"method":"eth\n_call"}',
        '{"method":"eth_call"}'.encode("utf-16"),
        '{"method":"eth_call"}'.encode("utf-32-le"),
        b'{"method":"eth_call" /* "method":"x" */}',
        b"{'method':'eth_call'}",
        b'{"method":"eth_call","params":' + b"[" * 40 + b"]" * 40 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" + b",".join([b'{"method":"eth_call"}'] * (MAX_CALLS + 1)) + b"]",
        # 4 MB of these let all other clients wait for one to three seconds.
        b'{"method":"eth_call","params":[' + b",".join([b"[]"] * MAX_VALUES) + b"]}",
        b'{"method":"eth_call","params":[' + b",".join([b'""'] * (MAX_VALUES + 1)) + b"]}",
    ],
)
def test_what_parsers_read_differently_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        read_request(body)
    assert "eth_" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"Method":"eth_sendRawTransaction","method":"eth_chainId","id":1}',
        '{"METHOD":"eth_sendRawTransaction","id":1}',
        '{"method":"eth_chainId","paramſ":[1],"id":1}',
        '{"method":"eth_chainId","Params":[1],"id":1}',
        '{"method":["eth_sendRawTransaction"],"id":1}',
        '{"method":12,"id":1}',
        '{"method":"","id":1}',
        '{"method":null,"id":1}',
        '{"id":1}',
        '{"method":"eth_chainId","id":{"a":1}}',
        '{"method":"eth_chainId","id":[1]}',
        '{"method":"eth_chainId","id":true}',
        "12",
        '"eth_sendRawTransaction"',
        "null",
    ],
)
def test_what_is_no_call_has_no_method(text: str) -> None:
    call = read(text)
    assert (call.method, bool(call.problem)) == ("", True)


def test_an_escaped_method_is_read_as_the_node_reads_it() -> None:
    assert read('{"method":"eth_sendRaw\\u0054ransaction"}').method == "eth_sendRawTransaction"


@pytest.mark.parametrize(
    "identity", ["1", "1.0", "1e400", "123456789012345678901234567890", '"a"', '"é"', "null", "-0"]
)
def test_ids_keep_their_text(identity: str) -> None:
    text = f'{{"jsonrpc":"2.0","id":{identity},"method":"eth_chainId"}}'
    found = read(text)
    assert found.id is not None
    assert found.id == identity or json.loads(found.id) == json.loads(identity)
    assert found.text == text


def test_a_number_of_any_length_is_read() -> None:
    assert read('{"method":"eth_chainId","id":' + "9" * 10_000 + "}").id == "9" * 10_000


def test_a_call_without_an_id_is_a_notification() -> None:
    assert read('{"method":"eth_chainId"}').id is None


def test_the_calls_of_a_batch_keep_their_text() -> None:
    body = ' [ {"method" : "a_b","id":1} ,\n{"id":2,"method":"c_d"}\t] '
    request = read_request(body.encode())
    assert [call.text for call in request.calls] == [
        '{"method" : "a_b","id":1}',
        '{"id":2,"method":"c_d"}',
    ]
    assert request.is_batch
    assert read_request(b"[]").calls == ()


CALL = st.fixed_dictionaries(
    {"method": st.text(min_size=1, max_size=30)},
    optional={
        "id": st.one_of(st.none(), st.integers(), st.text(max_size=20)),
        "jsonrpc": st.just("2.0"),
        "params": st.lists(
            st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False,
                allow_infinity=False), st.dictionaries(st.text(), st.text())), max_size=4),
    },
)  # fmt: skip


@given(st.lists(CALL, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_every_valid_message_is_read_as_json_reads_it(
    calls: list[dict[str, Any]], is_batch: bool, ascii_only: bool
) -> None:
    body = json.dumps(calls if is_batch else calls[0], ensure_ascii=ascii_only)
    request = read_request(body.encode("utf-8", "surrogatepass"))
    assert [call.method for call in request.calls] == [
        call["method"] for call in (calls if is_batch else calls[:1])
    ]
    assert json.loads(request.calls[0].text) == calls[0]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(body: bytes) -> None:
    try:
        calls = read_request(body).calls
    except Malformed:
        return
    for call in calls:
        json.loads(call.text)


class TestMerging:
    """Replies come in the order of the batch, ours among the node's."""

    CALLS = read_request(
        b'[{"method":"a_a","id":1},{"method":"b_b","id":"x"},{"method":"c_c"},{"method":"d_d","id":1}]'
    ).calls

    def test_in_the_order_of_the_calls(self) -> None:
        answer = '[{"id":1,"result":"second"} , {"id":"\\u0078", "result":"b"}]'
        found = merged(self.CALLS, {0: '{"id":1,"error":"own"}'}, answer)
        assert found == (
            '[{"id":1,"error":"own"},{"id":"\\u0078", "result":"b"},{"id":1,"result":"second"}]'
        )

    def test_a_reply_to_nothing_is_kept(self) -> None:
        found = merged(self.CALLS, {0: '{"id":1}'}, '[{"id":77,"result":1}]')
        assert found.startswith('[{"id":1},')
        assert found.endswith(',{"id":77,"result":1}]')

    @pytest.mark.parametrize("answer", ["[]", '[{"id":1,"result":2}]'])
    def test_a_call_that_the_node_does_not_answer_gets_an_error(self, answer: str) -> None:
        found = json.loads(merged(self.CALLS, {0: '{"id":1,"error":{}}'}, answer))
        assert [one["id"] for one in found] == [1, "x", 1]
        assert "may have received" in found[1]["error"]["message"]

    @pytest.mark.parametrize(
        "answer",
        ["", "<html>", "[", "[{]", "[" * 100_000, '{"a":' * 9_999, "[1,2", "nul", "{} x", "[] x"],
    )
    def test_an_unreadable_answer_is_an_error_reply(self, answer: str) -> None:
        found = json.loads(merged(self.CALLS, {0: '{"id":1,"error":{}}'}, answer))
        assert found[0] == {"id": 1, "error": {}}
        assert [one["id"] for one in found] == [1, "x", 1, None]
        assert found[-1]["error"]["message"] == "the node's answer is not JSON"

    def test_an_error_for_the_whole_batch_is_passed_on(self) -> None:
        answer = '{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"too many"}}'
        found = merged(self.CALLS, {0: '{"id":1}'}, answer)
        assert re.search(r"too many", found)
