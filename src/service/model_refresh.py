"""Switches to the registry's champion without a restart."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

from src.decision.address_list import AddressListError
from src.detection.errors import ModelError
from src.detection.policy import PolicyError
from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.registry.bundle import forest_id
from src.registry.registry import Registry, RegistryError
from src.registry.store import Store, StoreError
from src.service.decider import Decider
from src.service.settings import ServiceSettings
from src.variables import SettingsError

logger = logging.getLogger(__name__)


class ModelRefresher:
    """Checks the registry and switches the decider to a new champion.

    Args:
        registry: supplies the champion.
        decider: uses the champion.
    """

    def __init__(self, registry: Registry, decider: Decider) -> None:
        self._registry = registry
        self._decider = decider
        self._warned = ""

    def refresh(self) -> None:
        """Switch to a new, valid champion; if it is invalid, keep the model and warn once."""
        try:
            self._take_champion()
        except (
            RegistryError, StoreError, ModelError, PolicyError, AddressListError, OSError,
        ) as error:  # fmt: skip
            metrics.error_occurred(error)
            if str(error) != self._warned:
                self._warned = str(error)
                version = self._decider.model.version
                logger.warning("model %s stays in use: %s", version, error)
        else:
            self._warned = ""

    def _take_champion(self) -> None:
        champion = self._registry.ledger().champion
        attack = self._decider.pipeline.attack.model
        in_use = forest_id(self._decider.model.manifest, attack.manifest if attack else None)
        if champion in (None, in_use):
            return
        with TemporaryDirectory() as folder:
            path = self._registry.fetch(str(champion), Path(folder))
            self._decider.take_model(path)
        logger.info("switched to model %s, the champion of the registry", champion)


def model_refresh(settings: ServiceSettings, decider: Decider) -> Periodic | None:
    """The configured refresher, not yet started; None if no registry is configured.

    Raises:
        SettingsError: STORE_URL is not a usable store.
    """
    if settings.store_url is None:
        return None
    try:
        registry = Registry(Store(settings.store_url), public_key=decider.settings.model_public_key)
    except StoreError:
        raise SettingsError("STORE_URL", "a folder or s3://bucket/prefix") from None
    refresher = ModelRefresher(registry, decider)
    return Periodic("model-refresh", settings.model_refresh_seconds, refresher.refresh)
