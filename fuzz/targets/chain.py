"""Decoding: logs, numbers, text, ABI answers."""

import time
from collections.abc import Callable

from fuzz.data import Data
from fuzz.oracles import TRANSFER_TOPIC, check_text, decoded_transfer, expect
from fuzz.target import Bench, Target


def _logs(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.transfers import decode_transfer  # noqa: PLC0415

    def one(content: bytes) -> None:
        data = Data(content)
        topics: object = [
            data.pick((TRANSFER_TOPIC, TRANSFER_TOPIC.upper(), TRANSFER_TOPIC[:-1], data.text()))
            if data.one_in(16)
            else TRANSFER_TOPIC,
            data.hex_text(64),
            data.hex_text(64),
        ]
        if data.one_in(16):
            topics = data.altered(topics)
        address = data.json_value() if data.one_in(16) else data.hex_text(40)
        payload = data.json_value() if data.one_in(16) else data.hex_text(64)
        transfer = decode_transfer(address, topics, payload, 0)
        wanted = decoded_transfer(address, topics, payload)
        if transfer is None:
            expect(wanted is None, "mismatch", f"not seen: {wanted}")
            bench.reached["refused"] += 1
        else:
            got = (transfer.token, transfer.sender, transfer.recipient, transfer.amount)
            expect(got == wanted, "mismatch", f"{got} is not {wanted}")
            bench.reached["equal to eth_abi"] += 1

    return one


def _numbers(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.errors import MalformedAnswer  # noqa: PLC0415
    from src.chain.facts import first_transaction, whole_number  # noqa: PLC0415
    from src.chain.quantities import as_int  # noqa: PLC0415
    from src.detection.features.batch import amounts_from_decimals  # noqa: PLC0415

    def value_of(data: Data) -> object:
        number = data.integer()
        if data.one_in(4):
            return data.json_value(1)
        bounded = float(max(-(2**1023), min(number, 2**1023)))
        return data.pick((number, str(number), hex(number), f"{number:#X}", f"0{number}", bounded))

    def one(content: bytes) -> None:
        value = value_of(Data(content))
        number = as_int(value)
        if number is not None:
            text = str(value).lower()
            wanted = int(text, 16) if text.startswith("0x") else int(text)
            expect(number == wanted >= 0, "mismatch", f"{value!r} read as {number}")
            bench.reached["numbers"] += 1
        whole = whole_number(value)
        if whole is not None:
            expect(whole == int(str(value)), "mismatch", f"{value!r} read as {whole}")
        try:
            first = first_transaction("fuzz", value)
            expect(0 < first.timestamp <= time.time() + 901, "mismatch", f"{value!r}")
        except MalformedAnswer:
            pass
        try:
            (amount,) = amounts_from_decimals([str(value)])
            expect(amount == float(int(str(value))) <= 2.0**256, "mismatch", f"{value!r}: {amount}")
            bench.reached["amounts"] += 1
        except ValueError:
            pass

    return one


def _text(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.text import sanitise_text  # noqa: PLC0415

    def one(content: bytes) -> None:
        data = Data(content)
        longest = data.pick((32, 64, 1, 7, 200))
        text = "".join(data.text() for _ in range(1 + data.byte() % 4))
        clean = sanitise_text(text, longest)
        check_text(clean, longest)
        expect(sanitise_text(clean, longest) == clean, "mismatch", f"not stable: {text!r}")
        if clean != text:
            bench.reached["changed"] += 1

    return one


def _abi(bench: Bench) -> Callable[[bytes], None]:
    from eth_abi.abi import encode  # noqa: PLC0415

    from src.chain.erc20 import decode_text  # noqa: PLC0415

    def one(content: bytes) -> None:
        data = Data(content)
        plain = data.take(data.byte())
        kind = data.byte() % 4
        if kind == 0:
            decode_text(data.rest())
            return
        encoded = encode(["bytes"], [plain])
        if kind == 1:
            decode_text(data.damaged(encoded))
            return
        text = decode_text(encoded)
        readable = plain.decode("utf-8", "replace")
        expected = readable if readable.strip("\ufffd") else ""
        expect(text == expected, "mismatch", f"{plain!r} read as {text!r}")
        bench.reached["equal to eth_abi"] += 1

    return one


TARGETS = (
    Target("logs", "a raw log decodes to the same transfer as with eth_abi, or to none", _logs, 25),
    Target(
        "numbers", "counts, times, amounts in every notation: the number or an error", _numbers, 30
    ),
    Target("text", "names and symbols: short, printable, stable, without markers", _text, 18),
    Target("abi", "return values of name() and symbol(), valid and corrupt", _abi, 18),
)
