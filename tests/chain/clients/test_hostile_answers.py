"""What fuzzing found in answers of sources, held from now on."""

import json

import pytest
from werkzeug import Response

from src.chain.clients.http import HttpClient
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import PassingError
from src.chain.quantities import as_int
from tests.support.fake_chain import serve


@pytest.mark.parametrize("code", [[], {}, [-32005], "-32005", None, 1.5])
def test_an_error_code_of_any_shape_is_an_error(code):
    answer = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}}
    with (
        serve(lambda _: Response(json.dumps(answer))) as url,
        pytest.raises(PassingError, match=r"JSON-RPC error \?: no"),
    ):
        JsonRpcClient(url).call("eth_call", [])


@pytest.mark.parametrize("text", ["0x0x1", "0X0x1", "0x", "0x_1", "0x+1", "0b1", "1_0", "+1", "٣"])
def test_a_quantity_is_digits_and_nothing_else(text):
    assert as_int(text) is None


@pytest.mark.parametrize("before", range(30))
def test_half_a_key_does_not_move_into_sight_when_whole_ones_shrink(before):
    key = "planted-secret-key-of-some-length"
    client = HttpClient("source", "http://source", timeout=1, max_bytes=1, secrets=(key,))
    assert "plan" not in client.quote("x" * before + key * 40)
    assert client.quote("say p") == "say p"


@pytest.mark.parametrize("before", range(180, 201))
def test_a_key_is_not_cut_in_half_and_shown(before):
    key = "planted-secret-key"
    client = HttpClient("source", "http://source", timeout=1, max_bytes=1, secrets=(key,))
    assert "plan" not in client.quote("x" * before + key + key)
