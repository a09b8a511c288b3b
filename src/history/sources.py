"""The files of an export: what they are by content, their columns and types, and their blocks."""

import codecs
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

import duckdb
import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq

from src.chain.recording.format import find_parts, is_recording
from src.datasets.tables import TableError, check_parquet, check_unpacked
from src.files import only_hosts, reason
from src.history.layouts import OTHERS, column_name, table_name

PARQUET: Final = "parquet"
CSV: Final = "csv"
JSON: Final = "json"

TEXT: Final = "text"
BYTES: Final = "bytes"
INTEGER: Final = "integer"
DECIMAL: Final = "decimal"
FLOAT: Final = "float"
TIME: Final = "time"
LIST: Final = "list of text"
LIST_OF_BYTES: Final = "list of bytes"
NOTHING: Final = "nothing"
"""The type of a column without a value."""

_SPARKS = (
    "CREATE MACRO unix_seconds(t) AS CAST(floor(epoch(t)) AS BIGINT)",
    "CREATE MACRO try_element_at(l, i) AS list_extract(l, i)",
    "CREATE MACRO regexp_like(t, pattern) AS regexp_matches(t, pattern)",
    "CREATE TYPE TIMESTAMP_LTZ AS TIMESTAMPTZ",
)
"""What DuckDB lacks of Spark's SQL, which `sql` is written in."""

_PARQUET_MAGIC = b"PAR1"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}
_SUFFIXES = {".csv": CSV, ".tsv": CSV, ".json": JSON, ".jsonl": JSON, ".ndjson": JSON}
_END = 65_536
_PACKED = {
    ".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip", ".7z", ".tar", ".tgz", ".avro", ".orc", ".xlsx",
}  # fmt: skip
"""Suffixes of forms that are not read, except CSV and JSON in the first two."""
_MIN_COMMAS = 4  # or other delimiters, of a first line with the names of columns
_MAX_REASON = 240  # characters of an engine's message, some of which are pages long
_FOOTER = 8  # bytes: its length and the magic number
_MAX_DIGITS = 38
"""DuckDB reads decimals with more as floating-point numbers."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file."""

    name: str  # as in the file
    # `TEXT`, `BYTES`, `INTEGER`, `DECIMAL`, `FLOAT`, `TIME`, `LIST`, `LIST_OF_BYTES`, `NOTHING`,
    # or another type's name.
    kind: str
    type: str = ""  # the exact one; files are read at once only where it is the same


@dataclass(frozen=True, slots=True)
class File:
    """A file with a table."""

    path: str  # for the engine, also of a bucket
    name: str  # relative to the export
    form: str  # `PARQUET`, `CSV` or `JSON`
    columns: dict[str, Column]  # by their names in lower case with underscores
    compression: str = "none"  # of CSV and JSON, `none`, `gzip` or `zstd`
    has_rows: bool = True
    relation: str = ""  # SQL that reads it, where that is not all
    # By column, the lowest and highest value and the number of rows of each row group.
    groups: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)


@contextmanager
def connect(
    workers: int = 1, memory: str = "1GB", spill: Path | None = None, *, ordered: bool = False
) -> Iterator[Any]:
    """An engine of one's own, which reads rows in order if asked to.

    Raises:
        KeyboardInterrupt: also where Ctrl-C ended a query.
    """
    options: dict[str, Any] = {
        "threads": workers,
        "memory_limit": memory,
        "preserve_insertion_order": ordered,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if spill is not None:
        options["temp_directory"] = str(spill)
    with closing(duckdb.connect(config=options)) as connection:
        for text in ("SET TimeZone = 'UTC'", *_SPARKS):
            connection.execute(text)
        try:
            yield connection
        except RuntimeError as error:
            if str(error) == "Query interrupted":  # DuckDB's own way to pass a KeyboardInterrupt on
                raise KeyboardInterrupt from error
            raise


def list_files(source: str, connection: Any) -> tuple[list[File], dict[str, str]]:
    """The tables in a folder, a bucket, or a glob of either.

    If there is a parquet file, only parquet files count; else CSV, else JSON.

    Returns:
        The files with tables, and why others are left out, by their names.

    Raises:
        TableError: nothing is there, or a file is unreadable.
    """
    found, left_out = [], {}
    for path, name in _paths(source, connection):
        form = _form(path)
        if form is not None:
            found.append((form, path, name))
            continue
        left_out[name] = "neither parquet nor CSV nor JSON"
        suffix = Path(name).suffix.lower()
        if suffix in _PACKED:
            left_out[name] = f"{suffix} is not read: unpack it, or convert it to parquet"
            if _is_needed(name):
                raise TableError(f"{path}: {left_out[name]}")
    forms = [form for form in (PARQUET, CSV, JSON) if any(form == f for f, *_ in found)]
    files = []
    for form, path, name in found:
        if form != forms[0]:
            left_out[name] = f"{form} beside {forms[0]}"
            continue
        try:
            files.append(_file(path, name, form, connection))
        except TableError as error:
            if _is_needed(name) or (form != JSON and table_name(name) is None):
                raise
            left_out[name] = str(error).removeprefix(f"{path}: ")
    if not files:
        raise TableError(
            f"{source}: no parquet, CSV or JSON file in it; see docs/backtest.md for the layouts"
            f"{shown(left_out)}"
        )
    return files, left_out


def _is_needed(name: str) -> bool:
    """Whether a file has the name of one of our tables."""
    return table_name(name) not in (None, *OTHERS)


def shown(left_out: Mapping[str, str]) -> str:
    """The first files that were left out, to end an error with."""
    first = "".join(f". Left out: {name} ({why})" for name, why in list(left_out.items())[:5])
    return first + f" and {len(left_out) - 5} more" * (len(left_out) > 5)


def identity(files: tuple[File, ...], rest: str) -> str:
    """Hash of what the files hold, by their names, sizes, and footers or ends.

    A parquet file's footer lists every column chunk with its size, place and statistics.
    """
    digest = hashlib.sha256(rest.encode())
    for file in files:
        with opened(file.path) as stream:
            size = stream.seek(0, 2)
            head, length = b"", _END
            if file.form == PARQUET:
                stream.seek(max(0, size - _FOOTER))
                length = int.from_bytes(stream.read(4), "little") + _FOOTER
            else:
                stream.seek(0)
                head = stream.read(_END)
            stream.seek(max(0, size - length))
            content = hashlib.sha256(head + stream.read()).digest()
        digest.update(f"\n{file.name}\n{size}\n".encode() + content)
    return digest.hexdigest()


def opened(path: str) -> Any:
    """A file of a folder or a bucket, for reading."""
    if "://" in path:
        return fsspec.open(path, "rb").open()
    return Path(path).open("rb")


def unreadable(path: str, error: Exception) -> TableError:
    """The error for a file that cannot be read."""
    said = shorten(reason(error), _MAX_REASON, placeholder=" ...")
    return TableError(f"{path}: truncated, corrupt or not of its kind (text must be UTF-8): {said}")


def _paths(source: str, connection: Any) -> Iterator[tuple[str, str]]:
    """Paths and names of all files, in order of the names."""
    if "://" in source:
        protocol, _, place = source.partition("://")
        if protocol in ("http", "https") or "@" in place.partition("/")[0]:  # may hold a key
            raise TableError(f"{only_hosts(source)}: download it, or name a bucket without keys")
        try:
            system, root = fsspec.url_to_fs(source)
            names = system.glob(root) if any(c in root for c in "*?[") else system.find(root)
        except Exception as error:
            raise TableError(f"{source}: cannot be listed: {reason(error)}") from error
        connection.register_filesystem(system)
        for path in sorted(names):
            _refuse_versions(path)
            name = path.removeprefix(root).strip("/") or path.rpartition("/")[2]
            if not _is_hidden(name):
                yield f"{protocol}://{path}", name
        return
    folder = Path(source)
    if folder.is_file():
        yield str(folder), folder.name
    elif is_recording(folder):
        for part in find_parts(folder):
            for table in ("transactions", "logs"):
                path = part.path / f"{table}.parquet"
                yield str(path), path.relative_to(folder).as_posix()
    elif folder.is_dir():
        names = []
        for place, folders, files in os.walk(folder, followlinks=True):
            for name in (*files, *(f"{name}/" for name in folders)):
                _refuse_versions(f"{place}/{name}")
            folders[:] = [name for name in folders if not _is_hidden(name)]
            names += [Path(place) / name for name in files if not _is_hidden(name)]
        for path in sorted(names):
            yield str(path), path.relative_to(folder).as_posix()
    elif folder.exists():
        raise TableError(f"{folder}: is a pipe or a device; pass its content to --data -")
    else:
        raise TableError(f"{folder}: no such file or folder")


def _refuse_versions(path: str) -> None:
    """Refuse tables whose folders hold the files of earlier versions too."""
    kind = "a Delta" if "/_delta_log/" in path else "an Iceberg"
    if kind == "a Delta" or path.endswith(".metadata.json"):
        raise TableError(
            f"{path}: this is {kind} table, whose folder also holds rows that were removed: export "
            "it with its engine as parquet, such as spark.read.table(...).write.parquet(...)"
        )


def _is_hidden(name: str) -> bool:
    return any(piece.startswith((".", "_")) for piece in name.split("/"))


def _form(path: str) -> str | None:
    """What a file is: parquet by its content, others by their names, else by their content."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    try:
        with opened(path) as stream:
            head = stream.read(4)
        if head == _PARQUET_MAGIC or suffixes[-1:] in ([".parquet"], [".parq"], [".pq"]):
            return PARQUET
        if suffixes[-1:] in ([".gz"], [".zst"]) or not _PACKED.intersection(suffixes[-1:]):
            for suffix in reversed(suffixes):
                if suffix in _SUFFIXES:
                    return _SUFFIXES[suffix]
        packed = _MAGIC.get(head[:2])
        with opened(path) as stream, pa.input_stream(stream, packed) as content:
            first, *_ = content.read(_END).removeprefix(codecs.BOM_UTF8).split(b"\n", 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if first.startswith((b"{", b"[")):
        return JSON
    is_csv = max(map(first.count, (b",", b";", b"\t", b"|"))) >= _MIN_COMMAS and first.isascii()
    return CSV if is_csv and not suffixes else None


def _file(path: str, name: str, form: str, connection: Any) -> File:
    try:
        if form == PARQUET:
            return _parquet(path, name)
        file = File(path, name, form, {}, _compression(path))
        if file.compression != "none":
            with opened(path) as stream:
                check_unpacked(path, stream, file.compression)
        head = connection.sql(f"select * from {scan([file])} limit 1")
        has_rows = bool(head.fetchall())
    except (OSError, pa.ArrowException, duckdb.Error) as error:
        raise unreadable(path, error) from error
    columns = {column_name(name): Column(name, TEXT) for name in head.columns}
    return replace(file, columns=columns, has_rows=has_rows)


def _compression(path: str) -> str:
    with opened(path) as stream:
        return _MAGIC.get(stream.read(2)) or "none"


def _parquet(path: str, name: str) -> File:
    with opened(path) as stream, pq.ParquetFile(stream) as file:
        schema, metadata = file.schema_arrow, file.metadata
        check_parquet(path, stream.seek(0, os.SEEK_END), metadata)
        places = {metadata.schema.column(i).path: i for i in range(len(metadata.schema))}
        columns: dict[str, Column] = {}
        for n in schema.names:
            kind = schema.field(n).type
            is_null = metadata.num_rows > 0 and n in places and _is_null(metadata, places[n])
            column = Column(n, NOTHING if is_null else kind_of(kind), str(kind))
            columns.setdefault(column_name(n), column)
        groups: dict[str, list[tuple[float, float, int]]] = {}
        for short, column in columns.items():
            if column.kind != INTEGER or column.name not in places:
                continue
            groups[short] = []
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                found = group.column(places[column.name]).statistics
                known = found is not None and found.has_min_max
                low, high = (found.min, found.max) if known else (-math.inf, math.inf)
                groups[short].append((low, high, group.num_rows))
    return File(path, name, PARQUET, columns, groups=groups, has_rows=metadata.num_rows > 0)


def _is_null(metadata: pq.FileMetaData, place: int) -> bool:
    """Whether a column has no value, by its statistics."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    known = ((group.num_rows, group.column(place).statistics) for group in groups)
    return all(found is not None and found.null_count == rows for rows, found in known)


def kind_of(kind: pa.DataType) -> str:
    """The kind of a column of this type, see `Column`."""
    types = pa.types
    if types.is_null(kind):
        return NOTHING
    if types.is_dictionary(kind):
        return kind_of(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return TEXT
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return BYTES
    if types.is_fixed_size_binary(kind):
        return BYTES
    if types.is_integer(kind):
        return INTEGER
    if types.is_decimal(kind):
        return DECIMAL if kind.precision <= _MAX_DIGITS else f"{kind}, more than DuckDB reads"
    if types.is_floating(kind):
        return FLOAT
    if types.is_timestamp(kind):
        return TIME
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {TEXT: LIST, BYTES: LIST_OF_BYTES}.get(kind_of(kind.value_type), str(kind))
    return str(kind)


def identifier(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def scan(files: list[File]) -> str:
    """The files of one form as a table of DuckDB."""
    if files[0].relation:
        return files[0].relation
    if files[0].form == PARQUET:
        return parquet(file.path for file in files)
    paths = _literals(file.path for file in files)
    more = f"hive_partitioning=false, compression='{files[0].compression}'"
    if files[0].form == CSV:
        blank = r"nullstr=['', '\N', 'NULL']"  # of MySQL's and PostgreSQL's exports too
        return f"read_csv({paths}, header=true, all_varchar=true, {blank}, {more})"
    names = ", ".join(f"{quoted(c.name)}: 'VARCHAR'" for c in files[0].columns.values())
    return f"read_json({paths}, {more}{f', columns={{{names}}}' if names else ''})"


def parquet(paths: Iterable[str]) -> str:
    """Parquet files as a table of DuckDB, whatever their paths look like."""
    return f"read_parquet({_literals(paths)}, hive_partitioning=false)"


def quoted(text: str) -> str:
    """A literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _literals(paths: Iterable[str]) -> str:
    """A list of paths, each of which a glob matches alone."""
    names = ("".join(f"[{c}]" if c in "*?[" else c for c in path) for path in paths)
    return f"[{', '.join(map(quoted, names))}]"
