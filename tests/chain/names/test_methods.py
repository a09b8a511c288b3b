"""Names of methods are signatures whose hash begins with the selector."""

import json

from eth_utils.crypto import keccak

from src.chain.names.methods import METHODS_PATH, signature_of


def test_well_known_methods_are_named_and_others_are_not() -> None:
    assert signature_of("0xa9059cbb") == "transfer(address,uint256)"
    assert signature_of("0xd0e30db0") == "deposit()"
    assert signature_of("0x00000001") is None
    assert signature_of("0x") is None
    assert signature_of(None) is None


def test_every_signature_has_its_selector() -> None:
    methods = json.loads(METHODS_PATH.read_text(encoding="utf-8"))["methods"]
    assert len(methods) > 300
    for selector, signature in methods.items():
        assert "0x" + keccak(text=signature)[:4].hex() == selector
