"""The models of the registry: taken at the start, and switched to without a restart."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from src.chain.names.labels import AddressListError
from src.detection.bundle_files import REPORT_FILE
from src.detection.errors import ModelError
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.policy import PolicyError
from src.detection.supervised.model import SupervisedModel, load_fraud_model
from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.registry.bundle import FOREST, FRAUD, forest_id, fraud_id
from src.registry.drift_reference import read_reference
from src.registry.registry import Registry, RegistryError
from src.registry.store import StoreError, open_store
from src.service.decider import Decider
from src.service.settings import ServiceSettings
from src.variables import SettingsError

logger = logging.getLogger(__name__)

RECENT_PREDICTIONS = 5_000
_MAX_CARD_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FraudInUse:
    """A supervised model in use."""

    model: SupervisedModel  # predicts
    card: str  # its training report, Markdown; "" where it has none
    since: float  # when this process took it, Unix seconds
    # A summary of its training rows, for drift checks; None where it has none.
    reference: bytes | None = None
    # The newest inputs predicted on, each with its Unix seconds; in memory only.
    recent: deque[tuple[float, tuple[float, ...]]] = field(
        default_factory=lambda: deque(maxlen=RECENT_PREDICTIONS), repr=False
    )

    def remember(self, inputs: Mapping[str, float]) -> None:
        """Keep inputs that the model predicted on, all of them finite numbers."""
        values = tuple(float(inputs[name]) for name in self.model.inputs)
        self.recent.append((time.time(), values))


class FraudModel:
    """The supervised model of a process: one reference, which requests read once. Thread-safe.

    Args:
        path: the first model; None for none.
        public_key: models must be signed with its private key; None to skip this check.

    Attributes:
        in_use: what predicts; None for none.

    Raises:
        ModelError: the model is unusable.
    """

    def __init__(self, path: Path | None, public_key: str | None) -> None:
        self._public_key = public_key
        self._decider: Decider | None = None
        self.in_use: FraudInUse | None = None
        if path is not None:
            self.take(path)

    def serve(self, decider: Decider) -> None:
        """Give the decider each later model, too, if its inputs are features of transactions."""
        self._decider = decider

    def take(self, path: Path) -> None:
        """Switch to another model; on an error the current one stays in use.

        Raises:
            ModelError: it is unusable.
        """
        model = load_fraud_model(path, public_key=self._public_key)
        report = path.with_name(REPORT_FILE)
        card = ""
        if report.is_file() and report.stat().st_size <= _MAX_CARD_BYTES:
            card = report.read_text(encoding="utf-8", errors="replace")
        if self._decider is not None:
            self._decider.take_supervised(as_detector(model))
        self.in_use = FraudInUse(model, card, time.time(), read_reference(path))
        metrics.fraud_model_in_use(
            version=model.version,
            sha256=model.manifest.sha256,
            classifier=model.manifest.classifier,
        )

    @property
    def detector(self) -> SupervisedModel | None:
        """The model for the policy's detector, see `as_detector`."""
        return as_detector(self.in_use.model) if self.in_use else None

    @property
    def bundle(self) -> str | None:
        """The id that the model in use has in a registry."""
        return fraud_id(self.in_use.model.manifest) if self.in_use else None


def as_detector(model: SupervisedModel | None) -> SupervisedModel | None:
    """The supervised model if its inputs are transaction features (a card model's are not)."""
    return model if model is not None and set(model.inputs) <= set(FEATURE_NAMES) else None


class ModelRefresher:
    """Checks the registry and switches to a new champion of one kind.

    Args:
        registry: supplies the champion.
        in_use: the id of the bundle in use.
        take: switches to the model in a file.
    """

    def __init__(
        self, registry: Registry, in_use: Callable[[], str | None], take: Callable[[Path], object]
    ) -> None:
        self._registry = registry
        self._in_use = in_use
        self._take = take
        self._warned = ""

    def refresh(self) -> None:
        """Switch to a new, valid champion; if it is invalid, keep the model and warn once."""
        try:
            self.take_champion()
        except (
            RegistryError, StoreError, ModelError, PolicyError, AddressListError, OSError,
        ) as error:  # fmt: skip
            metrics.error_occurred(error)
            if str(error) != self._warned:
                self._warned = str(error)
                logger.warning("model %s stays in use: %s", self._in_use(), error)
        else:
            self._warned = ""

    def take_champion(self) -> None:
        """Switch to the champion, if there is one that is not in use.

        Raises:
            RegistryError, StoreError, ModelError, PolicyError: it cannot be used.
        """
        champion = self._registry.ledger().champion
        if champion in (None, self._in_use()):
            return
        with TemporaryDirectory() as folder:
            self._take(self._registry.fetch(str(champion), Path(folder)))
        kind = self._registry.kind.name
        logger.info("switched to model %s, the champion of kind %s", champion, kind)


def forest_refresher(registry: Registry, decider: Decider) -> ModelRefresher:
    """What keeps a decider's isolation forest and attack model at the champion."""

    def in_use() -> str:
        attack = decider.pipeline.attack.model
        return forest_id(decider.model.manifest, attack.manifest if attack else None)

    return ModelRefresher(registry, in_use, decider.take_model)


def model_refresh(
    settings: ServiceSettings, decider: Decider, fraud: FraudModel
) -> Periodic | None:
    """Take the registry's champions, and what looks for new ones, not yet started.

    Returns:
        None if no registry is configured.

    Raises:
        SettingsError: STORE_URL is not a usable store.
        RegistryError, ModelError, PolicyError: a champion cannot be used.
    """
    if settings.store_url is None:
        return None
    try:
        store = open_store(settings.store_url)
        key = decider.settings.model_public_key
        refreshers = [
            forest_refresher(Registry(store, FOREST, public_key=key), decider),
            ModelRefresher(
                Registry(store, FRAUD, public_key=key), lambda: fraud.bundle, fraud.take
            ),
        ]
        for one in refreshers:
            one.take_champion()
    except StoreError as error:
        raise SettingsError("STORE_URL", f"a store of models: {error}") from None

    def refresh() -> None:
        for one in refreshers:
            one.refresh()

    return Periodic("model-refresh", settings.model_refresh_seconds, refresh)
