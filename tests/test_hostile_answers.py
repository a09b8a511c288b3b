"""What fuzzing found in answers of sources, held from now on."""

import json

import pytest
from werkzeug import Response

from src.chain.errors import RequestRefused
from src.chain.rpc import JsonRpcClient
from tests.fake_chain import serve


@pytest.mark.parametrize("code", [[], {}, [-32005], "-32005", None, 1.5])
def test_an_error_code_of_any_shape_is_a_refusal(code):
    answer = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}}
    with (
        serve(lambda _: Response(json.dumps(answer))) as url,
        pytest.raises(RequestRefused, match=r"JSON-RPC error \?: no"),
    ):
        JsonRpcClient(url).call("eth_call", [])
