"""The SQL of an import, which is the same text for DuckDB and Spark.

Each table of an export is a view for each set of equal types of columns; the statement brings all
to our names and types, and joins transfers to their transactions. Names and amounts that are no
values of their kind are refused afterwards, see `canonical` and `damage`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from src.chain.transfers import NATIVE_EMITTERS, TRANSFER_TOPIC
from src.datasets.tables import ERC20, FUNGIBLE
from src.history.layouts import LOGS
from src.history.matching import Export, TableFiles
from src.history.sources import (
    BYTES,
    INTEGER,
    LIST,
    LIST_OF_BYTES,
    NOTHING,
    PARQUET,
    TEXT,
    TIME,
    Column,
    File,
    identifier,
)

_HASH, _ADDRESS = 32, 20
_TRANSFER_DIGITS = TRANSFER_TOPIC[2:]
_NATIVE = ", ".join(f"unhex('{emitter[2:]}')" for emitter in sorted(NATIVE_EMITTERS))


@dataclass(frozen=True, slots=True)
class View:
    """Files with the same columns of the same types."""

    name: str  # of the view
    files: tuple[File, ...]  # what it shows
    columns: Mapping[str, Column]  # the files' columns by our names


def views(table: TableFiles, name: str) -> list[View]:
    """The files of a table, those with equal columns together."""
    alike: dict[tuple[object, ...], list[File]] = {}
    columns: dict[tuple[object, ...], Mapping[str, Column]] = {}
    for file, names in table.files:
        order = () if file.form == PARQUET else tuple(file.columns)  # CSV is read by position
        key = (
            file.form,
            file.compression,
            order,
            *sorted((ours, c.name, c.kind, c.type) for ours, c in names.items()),
        )
        alike.setdefault(key, []).append(file)
        columns[key] = names
    return [
        View(f"{name}_{number}", tuple(files), columns[key])
        for number, (key, files) in enumerate(alike.items())
    ]


def export_views(export: Export) -> Iterator[View]:
    """All that are read of an export."""
    for table, name in (
        (export.transactions, "transactions"),
        (export.transfers, "transfers"),
        (export.blocks, "blocks"),
        (export.beside, "beside"),
    ):
        yield from views(table, name) if table else ()


def statement(export: Export, blocks: tuple[int, int] | None = None) -> str:
    """The transfers of a range of blocks with what is known of their transactions, in no order.

    Args:
        export: the tables.
        blocks: the first and the last of the range; None for everything.
    """
    has_blocks = transfers_have_blocks(export)
    t, join = "m", ""
    read = _logs if export.transfers.table.kind == LOGS else _transfers
    if export.transactions is None:
        read = _joined
    else:
        t, kind = "t", "LEFT JOIN" if has_blocks or blocks is None else "JOIN"
        parts = [_transactions(view) for view in views(export.transactions, "transactions")]
        join = f" {kind} ({_union(parts, blocks)}) t ON m.tx_hash = t.tx_hash"
    transfers = _union(
        [read(view) for view in views(export.transfers, "transfers")],
        blocks if has_blocks else None,
    )
    block = f"coalesce({t}.block_number, m.block_number)" if has_blocks else "t.block_number"
    moved_in = "m.block_number" if has_blocks else "t.block_number"
    time = f"{t}.block_timestamp"
    if export.blocks is not None:
        known = _union([_blocks(view) for view in views(export.blocks, "blocks")], blocks)
        time = "coalesce(t.block_timestamp, b.block_timestamp)"
        join += f" LEFT JOIN ({known}) b ON t.block_number = b.block_number"
    return (
        f"SELECT {block} AS block_number, {moved_in} AS moved_in, {t}.tx_index, m.tx_hash, "
        f"m.log_index, {time} AS block_timestamp, {t}.nonce, {t}.from_address, {t}.to_address, "
        f"m.token_address, m.payer, m.payee, m.amount, m.word, {t}.block_hash, "
        f"{t}.tx_hash IS NOT NULL AS is_known "
        f"FROM ({transfers}) m{join} "
        f"WHERE coalesce(m.token_address NOT IN ({_NATIVE}), true)"
    )


def transfers_have_blocks(export: Export) -> bool:
    """Whether each transfer says its block."""
    return all("block_number" in names for _, names in export.transfers.files)


def survey_of(view: View) -> str:
    """Rows of files by their chain and their tokens' standard, with the first and last block."""
    chain = view.columns.get("chain")
    text = "NULL" if chain is None or chain.kind == NOTHING else f"lower({_text(chain)})"
    block = number(view.columns.get("block_number"))
    return (
        f"SELECT CAST({text} AS STRING) AS chain, {_standard(view.columns)} AS standard, "
        f"min({block}) AS low, max({block}) AS high, count(*) AS n FROM {view.name} "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )


def _standard(names: Mapping[str, Column]) -> str:
    """What files say of a transfer's standard, as in `FUNGIBLE`; where they do not, ERC-20."""
    column = names.get("token_std")
    if column is None or column.kind != TEXT:
        return f"'{ERC20}'"
    return f"coalesce(nullif(translate(lower({_name(column)}), '-_ ', ''), ''), '{ERC20}')"


def block_counts(export: Export) -> str:
    """Rows of transfers by block; of transactions where transfers do not say their block."""
    has_blocks = transfers_have_blocks(export)
    table, name = export.transfers, "transfers"
    if export.transactions is not None and not has_blocks:
        table, name = export.transactions, "transactions"
    parts = [
        f"SELECT {number(view.columns['block_number'])} AS block_number FROM {view.name}"
        for view in views(table, name)
    ]
    return (
        f"SELECT block_number, count(*) AS n FROM ({' UNION ALL '.join(parts)}) "
        "GROUP BY block_number ORDER BY block_number"
    )


def _union(parts: list[str], blocks: tuple[int, int] | None) -> str:
    where = f" WHERE block_number BETWEEN {blocks[0]} AND {blocks[1]}" if blocks else ""
    return " UNION ALL ".join(f"SELECT * FROM ({part}) part{where}" for part in parts)


def _transactions(view: View) -> str:
    names = view.columns
    return (
        f"SELECT {bytes_of(names['tx_hash'], _HASH)} AS tx_hash, "
        f"{number(names.get('block_number'))} AS block_number, "
        f"{bytes_of(names.get('block_hash'), _HASH)} AS block_hash, "
        f"{_of_transaction(names, 'from_address', 'to_address')} FROM {view.name}"
    )


def is_transaction(names: Mapping[str, Column], tx_hash: str) -> str:
    """The condition of rows of a transaction, by the digits of its hash."""
    return f"{bytes_of(names['tx_hash'], _HASH)} = unhex('{tx_hash}')"


def _of_transaction(names: Mapping[str, Column], sender: str, called: str) -> str:
    return (
        f"{time(names.get('block_timestamp'))} AS block_timestamp, "
        f"{number(names.get('tx_index'))} AS tx_index, {number(names.get('nonce'))} AS nonce, "
        f"{bytes_of(names.get(sender), _ADDRESS)} AS from_address, "
        f"{bytes_of(names.get(called), _ADDRESS)} AS to_address"
    )


def _joined(view: View) -> str:
    """Transfers that say what a table of transactions would."""
    of = _of_transaction(view.columns, "tx_from", "tx_to")
    return _transfers(view, f", unhex(NULL) AS block_hash, {of}")


def _transfers(view: View, more: str = "") -> str:
    names = view.columns
    blocks = f", {number(names['block_number'])} AS block_number" if "block_number" in names else ""
    return (
        f"SELECT {bytes_of(names['tx_hash'], _HASH)} AS tx_hash, "
        f"{number(names['log_index'])} AS log_index, "
        f"{bytes_of(names['token_address'], _ADDRESS)} AS token_address, "
        f"{bytes_of(names['from_address'], _ADDRESS)} AS payer, "
        f"{bytes_of(names['to_address'], _ADDRESS)} AS payee, "
        f"{_amount(names['amount'])}{blocks}{more} FROM {view.name} "
        f"WHERE {_standard(names)} IN {FUNGIBLE}"
    )


def _logs(view: View) -> str:
    """ERC-20 transfers among logs, decoded as in `chain.transfers.decode_transfer`.

    The arguments are the topics after the first, then the words of the data.
    """
    names = view.columns
    topics = [topic(names, number) for number in range(4)]
    inner = (
        f"SELECT {bytes_of(names['tx_hash'], _HASH)} AS tx_hash, "
        f"{number(names['log_index'])} AS log_index, "
        f"{bytes_of(names['token_address'], _ADDRESS)} AS token_address, "
        f"{digits(names['data'])} AS word, "
        f"{topics[0]} AS topic0, {topics[1]} AS topic1, {topics[2]} AS topic2, "
        f"{topics[3]} AS topic3, {number(names['block_number'])} AS block_number FROM {view.name}"
    )
    words = "concat_ws('', topic1, topic2, word)"  # which leaves NULLs out
    # No hex digits of a log: has no address either then, hence is an error.
    odd = " OR ".join(f"length(topic{number}) <> 64" for number in range(3))
    odd += f" OR {is_odd('word')}"
    return (
        f"SELECT tx_hash, log_index, CASE WHEN {odd} THEN unhex(NULL) ELSE token_address END "
        "AS token_address, "
        f"unhex(substr({words}, 25, 40)) AS payer, unhex(substr({words}, 89, 40)) AS payee, "
        f"CAST(NULL AS STRING) AS amount, unhex(substr({words}, 129)) AS word, block_number "
        f"FROM ({inner}) l WHERE (lower(topic0) = '{_TRANSFER_DIGITS}' "
        "AND (topic1 IS NOT NULL OR topic2 IS NULL) AND topic3 IS NULL "
        f"AND length(word) >= 64 AND length({words}) = 192) OR {odd}"
    )


def is_odd(digits: str) -> str:
    """Whether these digits are not those of whole bytes, or text begins with a backslash."""
    return f"length({digits}) % 2 = 1 OR ascii({digits}) = 92"


def _blocks(view: View) -> str:
    return (
        f"SELECT {number(view.columns['block_number'])} AS block_number, "
        f"{time(view.columns['block_timestamp'])} AS block_timestamp FROM {view.name}"
    )


def topic(names: Mapping[str, Column], number: int) -> str:
    """The hex digits of a topic, without 0x."""
    if "topics" not in names:
        return digits(names[f"topic{number}"])
    column = names["topics"]
    if column.kind in (LIST, LIST_OF_BYTES):
        item = f"try_element_at({_name(column)}, {number + 1})"
        return _digits(item, BYTES if column.kind == LIST_OF_BYTES else TEXT)
    text = f"translate({_name(column)}, '[]{{}}\"'' ', '')"
    return _digits(f"split_part({text}, ',', {number + 1})", column.kind)


def digits(column: Column) -> str:
    """The hex digits of a value, without 0x."""
    return _digits(_name(column), column.kind)


def _digits(value: str, kind: str) -> str:
    if kind == BYTES:
        return f"hex({value})"
    if kind == NOTHING:
        return "CAST(NULL AS STRING)"
    prefix = f"substr({value}, 1, 2) IN ('0x', '0X')"
    return f"nullif(CASE WHEN {prefix} THEN substr({value}, 3) ELSE {value} END, '')"


def bytes_of(column: Column | None, length: int) -> str:
    """Bytes of this length; null where blank, an error where text is no hex of this length."""
    if column is None or column.kind == NOTHING:
        return "unhex(NULL)"
    name = _name(column)
    if column.kind == BYTES:
        return f"CASE WHEN octet_length({name}) > 0 THEN {name} END"
    return (
        f"coalesce(CASE WHEN length({name}) = {2 * length + 2} AND substr({name}, 1, 2) IN "
        f"('0x', '0X') THEN unhex(substr({name}, 3)) WHEN length({name}) = {2 * length} "
        f"THEN unhex({name}) END, "  # no digits: null in Spark, hence an error of all engines
        f"unhex(CAST(CAST(nullif({name} || '?', '?') AS BIGINT) AS STRING)))"
    )


def _amount(column: Column) -> str:
    """Decimal text, or 32 bytes: cryo's `value_binary` is either bytes or hex."""
    if column.kind == BYTES or column.name.lower().endswith("_binary"):
        return f"CAST(NULL AS STRING) AS amount, {bytes_of(column, _HASH)} AS word"
    return f"{_text(column)} AS amount, unhex(NULL) AS word"


def _text(column: Column) -> str:
    return _name(column) if column.kind == TEXT else f"CAST({_name(column)} AS STRING)"


def number(column: Column | None) -> str:
    """A whole number; an error for one with a fraction or an exponent, which engines round."""
    if column is None or column.kind == NOTHING:
        return "CAST(NULL AS BIGINT)"
    name = value = _name(column)
    if column.kind == INTEGER:
        return f"CAST({name} AS BIGINT)"
    is_whole = f"{name} = CAST({name} AS BIGINT)"
    if column.kind == TEXT:
        value = f"split_part({name}, '.', 1)"
        is_whole = f"regexp_like({name}, '^ *-?[0-9]+([.]0*)? *$')"
    refused = f"CAST(CAST({name} AS STRING) || '?' AS BIGINT)"  # null for a null
    return f"CASE WHEN {is_whole} THEN CAST({value} AS BIGINT) ELSE {refused} END"


def time(column: Column | None) -> str:
    """Unix time in the unit of the source, rounded down; `canonical` tells the unit by the size."""
    if column is None or column.kind == NOTHING:
        return "CAST(NULL AS BIGINT)"
    name = _name(column)
    if column.kind == TIME:
        return f"unix_seconds({name})"
    if column.kind == TEXT:
        return (
            f"CASE WHEN regexp_like({name}, '^[0-9]+([.][0-9]*)?$') "
            f"THEN CAST(split_part({name}, '.', 1) AS BIGINT) "
            f"ELSE unix_seconds(CAST({name} AS TIMESTAMP_LTZ)) END"
        )
    return f"CAST({name if column.kind == INTEGER else f'floor({name})'} AS BIGINT)"


def _name(column: Column) -> str:
    return identifier(column.name)
