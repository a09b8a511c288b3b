"""Whether a block's receipts are those that its header commits to, and if not, what differs.

Nodes give the receipts of some blocks in other forms than the one that was hashed. Each is tried,
and what remains is named: "logs are missing or wrong" would be a wrong diagnosis for most of them.
"""

from collections.abc import Sequence
from dataclasses import replace

from src.chain.recording.receipts_root import Outcome, has_state_root, receipts_root
from src.chain.recording.rows import Json, RecordedBlock, parse_quantity

# The last of the networks that fork Ethereum's history switched to the receipt's status here
# (Ethereum itself at 4,370,000).
_LAST_BLOCK_WITH_STATE_ROOTS = 8_772_000
_KNOWN_TYPES = frozenset({"0x0", "0x1", "0x2", "0x3", "0x4"})
_DEPOSIT_TYPE = "0x7e"
_NO_ROOT = "0x" + "0" * 64
_ROOT_OF_NOTHING = receipts_root([])
_ZERO_ADDRESS = "0x" + "0" * 40


def verified_block(recorded: RecordedBlock) -> tuple[RecordedBlock | None, str]:
    """The block if its receipts hash to its header's root; otherwise None and the reason.

    Bor's (Polygon's) state-sync transaction is not under the root, so it is left out of a verified
    block: its logs are only the node's claim.
    """
    transactions, receipts = recorded.block["transactions"], recorded.receipts
    stated = recorded.block.get("receiptsRoot")
    if len(receipts) != len(transactions):
        return None, f"{len(receipts)} receipts for {len(transactions)} transactions"
    if not all(isinstance(receipt, dict) for receipt in receipts):
        return None, "a receipt is malformed: not an object"
    if not isinstance(stated, str) or stated == _NO_ROOT:
        return None, "its header states no receipts root, so nothing can be verified"
    hashed = [_completed(*pair) for pair in zip(receipts, transactions, strict=True)]
    try:
        roots = _roots(hashed)
        if stated.lower() in roots:
            return recorded, ""
        has_sync = bool(receipts) and is_state_sync(receipts[-1], "gasUsed")
        if has_sync and stated.lower() in _roots(hashed[:-1]):
            block = recorded.block | {"transactions": transactions[:-1]}
            return replace(recorded, block=block, receipts=receipts[:-1]), ""
    except ValueError as error:
        return None, str(error)
    return None, f"its receipts hash to {roots[0]}, its header says {stated}: {_cause(recorded)}"


def is_state_sync(part: Json, gas: str) -> bool:
    """Whether a transaction or a receipt is from nobody to nobody and took no `gas`."""
    nobody = part.get("from") == part.get("to") == _ZERO_ADDRESS
    return nobody and parse_quantity(part.get(gas)) == 0


def _completed(receipt: Json, transaction: Json) -> Json:
    """The receipt with what some nodes give in the transaction only."""
    more: Json = {"type": transaction.get("type"), "logs": []}
    if transaction.get("type") == _DEPOSIT_TYPE:
        more["depositReceiptVersion"] = transaction.get("depositReceiptVersion")
        more["depositNonce"] = transaction.get("nonce")
    return {name: value for name, value in more.items() if value is not None} | {
        name: value for name, value in receipt.items() if value is not None
    }


def _roots(receipts: Sequence[Json]) -> list[str]:
    """The roots over receipts in each form that a node may mean."""
    if any(has_state_root(one) and one.get("status") is not None for one in receipts):
        return [receipts_root(receipts, outcome) for outcome in (Outcome.STATUS, Outcome.ROOT)]
    return [receipts_root(receipts)]


def _cause(recorded: RecordedBlock) -> str:
    if str(recorded.block.get("receiptsRoot")).lower() == _ROOT_OF_NOTHING:
        return "it is that of a block without transactions, which some nodes state for all blocks"
    kinds = {str(receipt.get("type") or "0x0") for receipt in recorded.receipts}
    unknown = sorted(kinds - _KNOWN_TYPES)
    if unknown:
        return (
            f"it has receipts of type {', '.join(unknown)}, which this chain hashes in another"
            " way, or of which the node leaves fields out (or a log is missing or wrong)"
        )
    number = parse_quantity(recorded.block.get("number"))
    is_old = number is not None and number < _LAST_BLOCK_WITH_STATE_ROOTS
    if is_old and kinds <= {"0x0"} and not any(map(has_state_root, recorded.receipts)):
        return (
            "no receipt has the post-state `root` of blocks before Byzantium (Ethereum: before"
            " 4,370,000), which some nodes leave out; if this block is younger, a log is missing"
            " or wrong"
        )
    return "logs are missing or wrong"
