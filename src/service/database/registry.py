"""The model registry of the batch analysis: one row per training, ordered by time.

The content is a serialised forest. After its SHA-256 is checked, `detection.forest.forest_file`
reads it without running any code in it.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, delete, exists, func, insert, select

from src.service.database.engine import Page, first_record, insert_missing, newest_first
from src.service.database.tables import analyses, forests, models

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A trained forest; `forest_of` has its content."""

    id: int  # of the row; grows with time
    created_at: float  # Unix seconds
    sha256: str  # of the content, hex
    inputs: list[str]  # names of the columns
    offset: float  # scikit-learn's `offset_`: rows with `-score` below it are anomalies
    training: Json  # its training data and parameters


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
    """Add a model; returns its id. Two models of the same time are two, of one content as well."""
    insert_missing(connection, forests, [{"sha256": sha256, "content": content}])
    result = connection.execute(
        insert(models)
        .values(
            created_at=now,
            sha256=sha256,
            inputs=inputs,
            offset=offset,
            training=training,
        )
        .returning(models.c.id)
    )
    return int(result.scalar_one())


def list_models(
    connection: Connection, chain_id: int, page: Page
) -> tuple[list[RegisteredModel], int]:
    """A page of the chain's models, newest first, and their total number."""
    ours = select(models).where(_trained_on(chain_id))
    return newest_first(connection, RegisteredModel, ours, models.c.id, page)


def latest_model(connection: Connection, chain_id: int) -> RegisteredModel | None:
    """The chain's newest model, or None if none was trained on it yet."""
    newest = select(models).where(_trained_on(chain_id)).order_by(models.c.id.desc()).limit(1)
    return first_record(connection, RegisteredModel, newest)


def forest_of(connection: Connection, model: RegisteredModel) -> bytes:
    """A model's content."""
    wanted = select(forests.c.content).where(forests.c.sha256 == model.sha256)
    return bytes(connection.execute(wanted).scalar_one())


def find_model(connection: Connection, number: int) -> RegisteredModel | None:
    """One model."""
    return first_record(connection, RegisteredModel, select(models).where(models.c.id == number))


def forget_models(connection: Connection, chain_id: int, before: float) -> None:
    """Delete the chain's models that a newer one replaced before a time, without those in analyses.

    So a running analysis keeps the model that was the latest when it began.

    Args:
        connection: of a writing transaction.
        chain_id: the chain.
        before: Unix seconds.
    """
    older = models.alias()
    replacing = (
        select(func.max(older.c.id))
        .where(_trained_on(chain_id, older))
        .where(older.c.created_at < before)
    )
    connection.execute(
        delete(models)
        .where(_trained_on(chain_id))
        .where(models.c.id < replacing.scalar_subquery())
        .where(~exists().where(analyses.c.model == models.c.id))
    )
    connection.execute(delete(forests).where(~exists().where(models.c.sha256 == forests.c.sha256)))


def _trained_on(chain_id: int, table: FromClause = models) -> ColumnElement[bool]:
    ours: ColumnElement[bool] = table.c.training["chain_id"].as_integer() == chain_id
    return ours
