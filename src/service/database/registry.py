"""The model registry of the batch analysis: one row per training, ordered by time.

The content is a serialised forest. After its SHA-256 is checked, `detection.forest.forest_file`
reads it without running any code in it.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from src.service.database.engine import record
from src.service.database.tables import models

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A trained forest without its content."""

    id: int  # of the row; grows with time
    created_at: float  # Unix seconds
    sha256: str  # of the content, hex
    inputs: list[str]  # names of the columns
    offset: float  # scikit-learn's `offset_`: rows with `-score` below it are anomalies
    training: Json  # its training data and parameters


_WITHOUT_CONTENT = [column for column in models.c if column.name != "content"]


def register_model(
    connection: Connection,
    *,
    content: bytes,
    sha256: str,
    inputs: list[str],
    offset: float,
    training: Json,
    now: float,
) -> int:
    """Add a model; returns its id. Two models of the same time are two rows."""
    result = connection.execute(
        insert(models)
        .values(
            created_at=now,
            sha256=sha256,
            inputs=inputs,
            offset=offset,
            training=training,
            content=content,
        )
        .returning(models.c.id)
    )
    return int(result.scalar_one())


def list_models(
    connection: Connection, *, limit: int = 50, offset: int = 0, before: float | None = None
) -> tuple[list[RegisteredModel], int]:
    """A page of models, newest first, and the total number.

    The page begins after `offset` models, or with the newest one whose id is below `before`.
    """
    total = connection.execute(select(func.count()).select_from(models)).scalar_one()
    newest = select(*_WITHOUT_CONTENT).order_by(models.c.id.desc()).limit(limit).offset(offset)
    if before is not None:
        newest = newest.where(models.c.id < before)
    return [record(RegisteredModel, row) for row in connection.execute(newest)], total


def latest_model(connection: Connection, chain_id: int) -> tuple[RegisteredModel, bytes] | None:
    """The chain's newest model and its content, or None if none was trained on it yet."""
    newest = select(models).order_by(models.c.id.desc()).limit(1)
    ours = models.c.training["chain_id"].as_integer() == chain_id
    row = connection.execute(newest.where(ours)).first()
    return None if row is None else (record(RegisteredModel, row), row.content)


def find_model(connection: Connection, number: int) -> RegisteredModel | None:
    """One model without its content."""
    row = connection.execute(select(*_WITHOUT_CONTENT).where(models.c.id == number)).first()
    return None if row is None else record(RegisteredModel, row)
