"""Settings of the service and of watch mode, besides the common ones of `src.settings`.

All come from the environment; `docs/service.md` describes them. Secrets appear in no repr.
"""

import hashlib
import ipaddress
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from src.chain.clients.http import is_http_url
from src.detection.records import Action
from src.settings import PROJECT_ROOT, Settings, SettingsError, load_settings, read_path

FEATURES = ("value", "gas_cost", "supply_share")
"""What the batch analysis can look at, one number a transaction and token."""

DEFAULT_DATABASE = PROJECT_ROOT / ".cache" / "service.db"
DEFAULT_FRAUD_MODEL = PROJECT_ROOT / "fraud_model" / "fraud_model.npz"
DEFAULT_DRIFT_REFERENCE = PROJECT_ROOT / "drift_reference.json"
DEMO_DATABASE = PROJECT_ROOT / ".cache" / "service-demo.db"
MAX_WORKERS = 64
_MIN_KEY_CHARACTERS = 16
_NO_NODE = "no-node.invalid"
_ON = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that a client shows; only its hash is kept.

    Attributes:
        name: who it was given to; feedback carries it.
        digest: SHA-256 of the key.
    """

    name: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """The service's settings.

    Attributes:
        host, port: where to listen.
        workers: processes that serve.
        database_url: None for SQLite in `.cache/`.
        api_keys: who may use the service; without any it serves the loopback only.
        allowed_hosts: values of `Host` to answer to; empty for any (loopback ones without keys).
        cors_origins: web origins whose scripts may call the API.
        requests_per_second: that one client may send, bursts of four seconds' worth allowed.
        max_body_bytes: largest request body.
        max_blocks: largest range of an analysis.
        direct_blocks: largest range that is answered at once; larger ones become jobs.
        max_jobs: jobs that may wait or run.
        request_seconds: longest that a direct analysis may take.
        node_patience: seconds to go on asking a node that fails.
        verify_blocks: refuse blocks whose receipts do not hash to the root in the header.
        block_seconds: time between blocks, to turn an interval into a range.
        features: columns of the analysis' forest.
        contamination: share of transactions that the forest calls anomalies.
        random_state: of the forest.
        fraud_model_path: the supervised model; None for the one that `npm run train:fraud` writes,
            where it is there: its endpoints say 404 while there is none.
        notify_urls: Apprise URLs that are told of alerts.
        webhook_urls, webhook_secret: receivers of signed JSON.
        webhook_allow_private: whether receivers may be in private networks.
        notify_from: least drastic action that is told.
        confirmations: blocks that watch mode stays behind the head.
        watch_from: first block to watch at the very first start; None for the head.
        metrics_port: where watch mode serves its metrics; None for nowhere.
        store_url: the registry whose champion decides; None for the model of the checkout.
        model_refresh_seconds: between two looks at the registry.
        drift_interval_minutes: between two checks for drift; 0 for none.
        drift_reference: the sample of training's traffic that checks compare with; None for
            DEFAULT_DRIFT_REFERENCE, where it is there.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 2
    database_url: str | None = field(default=None, repr=False)
    api_keys: tuple[ApiKey, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    requests_per_second: int = 100
    max_body_bytes: int = 4 * 1024 * 1024
    max_blocks: int = 10_000
    direct_blocks: int = 500
    max_jobs: int = 20
    request_seconds: float = 120.0
    node_patience: float = 5.0
    verify_blocks: bool = True
    block_seconds: float = 12.0
    features: tuple[str, ...] = ("value", "gas_cost")
    contamination: float = 0.001
    random_state: int = 42
    fraud_model_path: Path | None = None
    notify_urls: tuple[str, ...] = field(default=(), repr=False)
    webhook_urls: tuple[str, ...] = field(default=(), repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    webhook_allow_private: bool = False
    notify_from: Action = Action.REVIEW
    confirmations: int = 0
    watch_from: int | None = None
    metrics_port: int | None = None
    store_url: str | None = field(default=None, repr=False)
    model_refresh_seconds: float = 60.0
    drift_interval_minutes: float = 60.0
    drift_reference: Path | None = None

    @property
    def is_public(self) -> bool:
        """Whether others than this machine can reach the service."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def load_service_settings(environ: Mapping[str, str] | None = None) -> ServiceSettings:
    """Read the service's settings from the environment.

    Raises:
        SettingsError: a setting has an impossible value, or they contradict each other.
    """
    read = _Reader(os.environ if environ is None else environ)
    usual = ServiceSettings()
    settings = ServiceSettings(
        host=read.text("SERVICE_HOST", usual.host),
        port=read.whole("SERVICE_PORT", usual.port, 0, 65_535),
        workers=read.whole("SERVICE_WORKERS", usual.workers, 1, MAX_WORKERS),
        database_url=read.text("DATABASE_URL", "") or None,
        api_keys=_api_keys(read.words("SERVICE_API_KEYS")),
        allowed_hosts=read.words("SERVICE_ALLOWED_HOSTS"),
        cors_origins=_origins(read.words("SERVICE_CORS_ORIGINS")),
        requests_per_second=read.whole(
            "SERVICE_REQUESTS_PER_SECOND", usual.requests_per_second, 1, 1_000_000
        ),
        max_body_bytes=read.whole("SERVICE_MAX_BODY_BYTES", usual.max_body_bytes, 1024, 2**30),
        max_blocks=read.whole("ANALYSIS_MAX_BLOCKS", usual.max_blocks, 1, 10_000_000),
        direct_blocks=read.whole("ANALYSIS_DIRECT_BLOCKS", usual.direct_blocks, 0, 10_000),
        max_jobs=read.whole("ANALYSIS_MAX_JOBS", usual.max_jobs, 1, 10_000),
        request_seconds=read.number("SERVICE_REQUEST_SECONDS", usual.request_seconds, 1, 3_600),
        node_patience=read.number("NODE_PATIENCE_SECONDS", usual.node_patience, 0, 600),
        verify_blocks=read.switch("VERIFY_BLOCKS", default=usual.verify_blocks),
        block_seconds=read.number("BLOCK_SECONDS", usual.block_seconds, 0.05, 3_600),
        features=_features(read.words("ANALYSIS_FEATURES")) or usual.features,
        contamination=read.number("ANALYSIS_CONTAMINATION", usual.contamination, 1e-6, 0.5),
        random_state=read.whole("ANALYSIS_RANDOM_STATE", usual.random_state, 0, 2**32 - 1),
        fraud_model_path=read.path("FRAUD_MODEL_PATH"),
        notify_urls=read.words("NOTIFY_URLS"),
        webhook_urls=_webhooks(read.words("WEBHOOK_URLS")),
        webhook_secret=read.text("WEBHOOK_SECRET", "") or None,
        webhook_allow_private=read.switch("WEBHOOK_ALLOW_PRIVATE", default=False),
        notify_from=_action(read.text("NOTIFY_FROM", usual.notify_from.name)),
        confirmations=read.whole("WATCH_CONFIRMATIONS", usual.confirmations, 0, 10_000),
        watch_from=read.optional_whole("WATCH_FROM_BLOCK"),
        metrics_port=read.optional_whole("WATCH_METRICS_PORT"),
        store_url=read.text("STORE_URL", "") or None,
        model_refresh_seconds=read.number(
            "MODEL_REFRESH_SECONDS", usual.model_refresh_seconds, 1, 86_400
        ),
        drift_interval_minutes=read.number(
            "DRIFT_INTERVAL_MINUTES", usual.drift_interval_minutes, 0, 100_000
        ),
        drift_reference=read.path("DRIFT_REFERENCE"),
    )
    _check_together(settings)
    return settings


def load_common_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings shared with the bot; no `json_rpc_url` means the embedded demo.

    The Forta CLI's configuration, which names a node for local runs, does not count here.

    Raises:
        SettingsError: a setting has an impossible value.
    """
    env = os.environ if environ is None else environ
    settings = load_settings({"JSON_RPC_HOST": _NO_NODE, **env})
    if settings.json_rpc_url == f"http://{_NO_NODE}":
        return replace(settings, json_rpc_url=None)
    return settings


def database_url(settings: ServiceSettings, common: Settings) -> str:
    """The configured database, or a file; the demo has one of its own."""
    default = DEMO_DATABASE if common.json_rpc_url is None else DEFAULT_DATABASE
    return settings.database_url or f"sqlite:///{default}"


def _check_together(settings: ServiceSettings) -> None:
    if settings.is_public and not settings.api_keys:
        raise SettingsError(
            "SERVICE_API_KEYS",
            f"set while the service listens beyond loopback (SERVICE_HOST={settings.host})",
        )
    if settings.webhook_urls and not settings.webhook_secret:
        raise SettingsError("WEBHOOK_SECRET", "set together with WEBHOOK_URLS: they are signed")


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, "").strip() or default

    def words(self, name: str) -> tuple[str, ...]:
        """What is separated by commas or blanks."""
        return tuple(self._environ.get(name, "").replace(",", " ").split())

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise SettingsError(name, f"a whole number from {low} to {high}")
        return int(text)

    def path(self, name: str) -> Path | None:
        text = self.text(name, "")
        return read_path(name, text) if text else None

    def optional_whole(self, name: str) -> int | None:
        return self.whole(name, 0, 0, 2**62) if self.text(name, "") else None

    def number(self, name: str, default: float, low: float, high: float) -> float:
        try:
            value = float(self.text(name, str(default)))
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise SettingsError(name, f"a number from {low:g} to {high:g}")
        return value

    def switch(self, name: str, *, default: bool) -> bool:
        text = self.text(name, str(default)).lower()
        if text not in _ON:
            raise SettingsError(name, "true or false")
        return _ON[text]


def _api_keys(words: tuple[str, ...]) -> tuple[ApiKey, ...]:
    keys = []
    for number, word in enumerate(words, start=1):
        name, colon, key = word.partition(":")
        if not colon:
            name, key = f"key-{number}", word
        if len(key) < _MIN_KEY_CHARACTERS or not (name.isascii() and 0 < len(name) <= 64):
            raise SettingsError(
                "SERVICE_API_KEYS",
                f"NAME:KEY with keys of at least {_MIN_KEY_CHARACTERS} characters, separated by "
                "commas; make one with `openssl rand -hex 24`",
            )
        keys.append(ApiKey(name, hashlib.sha256(key.encode()).digest()))
    return tuple(keys)


def _origins(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(is_http_url(word) for word in words):
        raise SettingsError("SERVICE_CORS_ORIGINS", "origins such as https://example.org")
    return words


def _webhooks(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(is_http_url(word) for word in words):
        raise SettingsError("WEBHOOK_URLS", "http:// or https:// URLs, separated by blanks")
    return words


def _features(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(words)) < len(words) or not set(words) <= set(FEATURES):
        raise SettingsError("ANALYSIS_FEATURES", f"some of {', '.join(FEATURES)}, each once")
    return words


def _action(name: str) -> Action:
    try:
        return Action[name.upper()]
    except KeyError:
        names = ", ".join(action.name for action in Action)
        raise SettingsError("NOTIFY_FROM", f"one of {names}") from None
