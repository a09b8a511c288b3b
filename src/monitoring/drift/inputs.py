"""The input of drift checks of a supervised model: its probability and every input."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.detection.supervised.model import SupervisedModel
from src.monitoring.drift.measures import distributions
from src.monitoring.drift.sample import dates_of, halves_of
from src.registry.drift_reference import TrafficSample

PROBABILITY = "fraud_probability"


def sample_of_inputs(
    version: str,
    inputs: tuple[str, ...],
    rows: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    *,
    threshold: float,
    as_reference: bool = False,
    times: NDArray[np.int64] | None = None,
) -> TrafficSample:
    """Summarise what a model predicted on.

    Args:
        version: of the model.
        inputs: names of the columns.
        rows: shape (n, k), at least one; NaN where a value is missing.
        probabilities: of fraud, shape (n,).
        threshold: probabilities at or above it are fraud.
        as_reference: measure the noise too, so that the sample can be a reference. Rows count as
            independent.
        times: of each prediction, Unix seconds; None where they are unknown.
    """
    halves = halves_of(np.arange(len(rows))) if as_reference else []
    observed = {PROBABILITY: probabilities} | dict(zip(inputs, rows.T, strict=True))
    return TrafficSample(
        model_version=version,
        size=len(rows),
        anomalies=int((probabilities >= threshold).sum()),
        columns=distributions(observed, halves),
        tokens=None,
        dates=() if times is None else dates_of(times),
    )


def sample_of_predictions(
    model: SupervisedModel,
    rows: NDArray[np.float64],
    *,
    as_reference: bool = False,
    times: NDArray[np.int64] | None = None,
) -> TrafficSample:
    """Summarise rows of complete inputs, which the model predicts on."""
    return sample_of_inputs(
        model.version,
        model.inputs,
        rows,
        model.probabilities(rows),
        threshold=model.threshold,
        as_reference=as_reference,
        times=times,
    )


def read_inputs(path: Path, inputs: tuple[str, ...]) -> NDArray[np.float64]:
    """A model's inputs from a CSV or parquet table, which may have other columns too.

    Raises:
        ValueError: a column is missing or not numeric, or the file is no table.
    """
    # The service, which never reads a table, needs no pandas.
    import pandas as pd  # noqa: PLC0415

    from src.datasets.tables import read_table  # noqa: PLC0415

    table = read_table(path, inputs)[list(inputs)]
    numbers = table.apply(pd.to_numeric, errors="coerce")
    rows, columns = np.nonzero((numbers.isna() & table.notna()).to_numpy())
    if len(rows):
        row, column = int(rows[0]), int(columns[0])
        shown = str(table.iat[row, column])[:80]
        raise ValueError(
            f"{path}, row {row + 1}, column {inputs[column]}: {shown!r} is not a number"
        )
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
