"""The metadata of tokens for a recording: the raw results of their contracts."""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial

from eth_abi.abi import encode

from src.chain.erc20 import (
    MAX_TOKENS_PER_CALL,
    answers_alone,
    decode_text,
    multicall,
    multicall_results,
    returned_bytes,
)
from src.chain.errors import MalformedAnswer, PassingError, RequestRefused
from src.chain.recording.fetch import Node
from src.chain.recording.format import TokenAnswers

logger = logging.getLogger(__name__)

_MAX_ANSWER_BYTES = 4096  # a longer name or symbol is an attempt to fill the disk: it is cut
_WORD_BYTES = 32
_PASSING_PATIENCE = 10.0
_IDENTITY = f"0x{4:040x}"  # a precompile of every chain, which returns its input


class TokenFetcher:
    """Calls `decimals()`, `name()` and `symbol()` of tokens, thirty tokens per Multicall3 request.

    If a token's call fails there, it is repeated alone: another token may have burnt the gas, and
    the failure must not be recorded as the token's own. If the chain has no Multicall3, all tokens
    are called alone.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._has_multicall = True

    def fetch_all(self, tokens: Sequence[str], pool: Executor) -> list[TokenAnswers | None]:
        """The present metadata of each token; None if the node refuses.

        Raises:
            SourceError: the node does not answer.
        """
        starts = range(0, len(tokens), MAX_TOKENS_PER_CALL)
        batches = [tokens[start : start + MAX_TOKENS_PER_CALL] for start in starts]
        together = [found for batch in pool.map(self._ask_together, batches) for found in batch]
        alone = (token for token, found in zip(tokens, together, strict=True) if found is None)
        answers = dict(pool.map(self._ask_alone, alone))
        return [
            _recorded(token, answers.get(token) if found is None else found)
            for token, found in zip(tokens, together, strict=True)
        ]

    def _ask_together(self, tokens: Sequence[str]) -> list[list[bytes | None] | None]:
        """The results of each token; None for those that must be called alone."""
        if not self._has_multicall or len(tokens) == 1:
            return [None] * len(tokens)
        try:
            data = self._eth_call(multicall(tokens), _PASSING_PATIENCE)
            self._has_multicall &= bool(data)
            results = multicall_results(data, tokens)
        except (RequestRefused, MalformedAnswer, PassingError) as error:
            logger.info("%s: calling each token alone", error)
            return [None] * len(tokens)
        return [
            [data for _, data in found] if all(success for success, _ in found) else None
            for found in results
        ]

    def _ask_alone(self, token: str) -> tuple[str, list[bytes | None] | None]:
        # At first without patience, since Multicall3 tells code that fails from a node that does.
        # Without it, a node that runs other calls is waited for a little; see `answers_alone`.
        for patience in (0.0, _PASSING_PATIENCE, None):
            try:
                return token, answers_alone(partial(self._eth_call, patience=patience), token)
            except PassingError as error:
                logger.info("token %s: %s", token, error)  # which says nothing about the token
                if patience and self._runs_calls():
                    break
            except (MalformedAnswer, RequestRefused) as error:
                logger.info("token %s: %s", token, error)
                break
        return token, None

    def _runs_calls(self) -> bool:
        try:
            self._eth_call({"to": _IDENTITY, "data": "0x"}, patience=0.0)
        except (MalformedAnswer, RequestRefused, PassingError):
            return False
        return True

    def _eth_call(self, call: dict[str, str], patience: float | None = None) -> bytes:
        params = [call, "latest"]
        return returned_bytes(self._node.call("eth_call", params, passing_patience=patience))


def _recorded(token: str, answers: Sequence[bytes | None] | None) -> TokenAnswers | None:
    if answers is None:
        return None
    decimals, name, symbol = answers
    texts = [_hex(text if _fits(text) else _text(text or b"")) for text in (name, symbol)]
    number = _hex(decimals if _fits(decimals) else (decimals or b"")[:_WORD_BYTES])
    return TokenAnswers(token, name=texts[0], symbol=texts[1], decimals=number)


def _fits(data: bytes | None) -> bool:
    return data is None or len(data) <= _MAX_ANSWER_BYTES


def _text(data: bytes) -> bytes:
    """As much of a text as is ever read of it, in the form in which contracts return texts."""
    return encode(["string"], [decode_text(data)])


def _hex(data: bytes | None) -> str | None:
    return None if data is None else f"0x{data.hex()}"
