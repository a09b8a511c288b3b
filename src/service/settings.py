"""Settings of the service and of watch mode, besides the common ones of `src.settings`.

All come from the environment; `docs/service.md` describes them. Secrets appear in no repr.
"""

import hashlib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from src.chain.transfers import normalise_address
from src.detection.records import Action
from src.settings import PROJECT_ROOT, Settings, load_settings
from src.variables import (
    MODEL,
    PATH,
    PORT,
    SWITCH,
    TEXT,
    URL,
    WORDS,
    Kind,
    Secret,
    SettingsError,
    number,
    one_of,
    read_fields,
    setting,
    whole_number,
)

FEATURES = ("value", "gas_cost", "supply_share")
"""Features of the batch analysis: one number per transaction and token."""

DEFAULT_DATABASE = PROJECT_ROOT / ".cache" / "service.db"
DEFAULT_FRAUD_MODEL = PROJECT_ROOT / "fraud_model" / "fraud_model.npz"
DEMO_DATABASE = PROJECT_ROOT / ".cache" / "service-demo.db"
MAX_WORKERS = 64
_MIN_KEY_CHARACTERS = 16
_MAX_ACCOUNTS = 500
_NO_NODE = "no-node.invalid"
_HOST_WITH_PORT = re.compile(r"([^:]+|\[.+\]):\d+")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's API key, of which only the hash is kept."""

    name: str  # the key's owner; recorded with feedback
    digest: bytes = field(repr=False)  # SHA-256 of the key


def _api_keys(text: str) -> tuple[ApiKey, ...]:
    keys = []
    for position, word in enumerate(WORDS.parse(text), start=1):
        name, colon, key = word.partition(":")
        if not colon:
            name, key = f"key-{position}", word
        if len(key) < _MIN_KEY_CHARACTERS or not (name.isascii() and 0 < len(name) <= 64):
            raise ValueError
        keys.append(ApiKey(name, hashlib.sha256(key.encode()).digest()))
    return tuple(keys)


def _urls(text: str) -> tuple[str, ...]:
    return tuple(URL.parse(word) for word in WORDS.parse(text))


def _origins(text: str) -> tuple[str, ...]:
    """As browsers send them: without a path, a usual port and capitals."""
    found = []
    for url in _urls(text):
        parts = urlsplit(url.lower())
        if parts.path.strip("/") or parts.query or parts.username is not None:
            raise ValueError
        usual = {"http": ":80", "https": ":443"}[parts.scheme]
        found.append(f"{parts.scheme}://{parts.netloc.removesuffix(usual)}")
    return tuple(found)


def _hosts(text: str) -> tuple[str, ...]:
    """Names without a scheme, a port and a path, which people paste with them."""
    names = [word.rpartition("://")[2].partition("/")[0] for word in WORDS.parse(text)]
    found = (_HOST_WITH_PORT.fullmatch(name) for name in names)
    return tuple(one[1] if one else name for one, name in zip(found, names, strict=True))


def _features(text: str) -> tuple[str, ...]:
    words = WORDS.parse(text)
    if not words or len(set(words)) < len(words) or not set(words) <= set(FEATURES):
        raise ValueError
    return words


def _accounts(text: str) -> tuple[str, ...]:
    accounts = [normalise_address(word) for word in WORDS.parse(text)]
    found = [account for account in accounts if account is not None]
    if len(found) < len(accounts) or len(found) > _MAX_ACCOUNTS:
        raise ValueError
    return tuple(found)


_ACCOUNTS = Kind(f"at most {_MAX_ACCOUNTS} addresses, separated by commas", _accounts)
_API_KEYS = Kind(
    f"NAME:KEY with keys of at least {_MIN_KEY_CHARACTERS} characters, separated by commas; make "
    "one with `openssl rand -hex 24`",
    _api_keys,
)
_ORIGINS = Kind("origins such as https://example.org", _origins)
_HOSTS = Kind(WORDS.allowed, _hosts)
_WEBHOOKS = Kind("http:// or https:// URLs, separated by blanks", _urls)
_FEATURES = Kind(f"some of {', '.join(FEATURES)}, each once", _features)
_ACTION = one_of({action.name: action for action in Action})
_ANY_SECRET = Kind("text", Secret)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """The service's settings."""

    # host, port: listen address.
    host: str = setting("SERVICE_HOST", TEXT, "127.0.0.1")
    port: int = setting("SERVICE_PORT", PORT, 8080)
    # Number of worker processes.
    workers: int = setting("SERVICE_WORKERS", whole_number(1, MAX_WORKERS), 2)
    # None for SQLite in `.cache/`.
    database_url: str | None = setting("DATABASE_URL", TEXT, None, secret=True)
    # Clients of the service; without any it listens on loopback only.
    api_keys: tuple[ApiKey, ...] = setting("SERVICE_API_KEYS", _API_KEYS, (), secret=True)
    # Clients of the screening proxy (`npm run guard`); without any it listens on loopback only.
    guard_api_keys: tuple[ApiKey, ...] = setting("GUARD_API_KEYS", _API_KEYS, (), secret=True)
    # Accepted values of `Host`; empty for any (loopback ones without keys).
    allowed_hosts: tuple[str, ...] = setting("SERVICE_ALLOWED_HOSTS", _HOSTS, ())
    # Where people open the service's pages, for links in notifications; None for no links.
    public_url: str | None = setting("SERVICE_PUBLIC_URL", URL, None)
    # Web origins whose scripts may call the API.
    cors_origins: tuple[str, ...] = setting("SERVICE_CORS_ORIGINS", _ORIGINS, ())
    # Rate limit per client, with bursts of four seconds' worth.
    requests_per_second: int = setting(
        "SERVICE_REQUESTS_PER_SECOND", whole_number(1, 1_000_000), 2_000
    )
    # Largest request body.
    max_body_bytes: int = setting(
        "SERVICE_MAX_BODY_BYTES", whole_number(1024, 2**30), 4 * 1024 * 1024
    )
    # Largest range of an analysis.
    max_blocks: int = setting("ANALYSIS_MAX_BLOCKS", whole_number(1, 10_000_000), 10_000)
    # Largest range that is answered directly; larger ones become jobs.
    direct_blocks: int = setting("ANALYSIS_DIRECT_BLOCKS", whole_number(0, 10_000), 500)
    # Maximum number of waiting and running jobs.
    max_jobs: int = setting("ANALYSIS_MAX_JOBS", whole_number(1, 10_000), 20)
    # Time limit of a direct analysis.
    request_seconds: float = setting("SERVICE_REQUEST_SECONDS", number(1, 3_600), 120.0)
    # Seconds to retry a failing node.
    node_patience: float = setting("NODE_PATIENCE_SECONDS", number(0, 600), 5.0)
    # Reject blocks whose receipts do not hash to the root in the header; None for the chain's own
    # (`Network.hashed_receipts`).
    verify_blocks: bool | None = setting("VERIFY_BLOCKS", SWITCH, None)
    # Columns of the analysis' forest.
    features: tuple[str, ...] = setting("ANALYSIS_FEATURES", _FEATURES, ("value", "gas_cost"))
    # Share of transactions that the forest classifies as anomalies.
    contamination: float = setting("ANALYSIS_CONTAMINATION", number(1e-6, 0.5), 0.001)
    # Seed of the forest.
    random_state: int = setting("ANALYSIS_RANDOM_STATE", whole_number(0, 2**32 - 1), 42)
    # The supervised model; None for the output of `npm run train:fraud`, if it exists. Without a
    # model its endpoints answer 404.
    fraud_model_path: Path | None = setting("FRAUD_MODEL_PATH", MODEL, None)
    # Apprise URLs that receive alerts.
    notify_urls: tuple[str, ...] = setting("NOTIFY_URLS", WORDS, (), secret=True)
    # webhook_urls, webhook_secret: receivers of signed JSON.
    webhook_urls: tuple[str, ...] = setting("WEBHOOK_URLS", _WEBHOOKS, (), secret=True)
    webhook_secret: Secret | None = setting("WEBHOOK_SECRET", _ANY_SECRET, None, secret=True)
    # Whether receivers may be in private networks.
    webhook_allow_private: bool = setting("WEBHOOK_ALLOW_PRIVATE", SWITCH, False)
    # Lowest action that is notified.
    notify_from: Action = setting("NOTIFY_FROM", _ACTION, Action.REVIEW)
    # Blocks that watch mode stays behind the head.
    confirmations: int = setting("WATCH_CONFIRMATIONS", whole_number(0, 10_000), 0)
    # First block to watch on the first start; None for the head.
    watch_from: int | None = setting("WATCH_FROM_BLOCK", whole_number(0, 2**62), None)
    # Whose pending transactions are screened, lowercase.
    watch_accounts: tuple[str, ...] = setting("WATCH_ACCOUNTS", _ACCOUNTS, ())
    # Pending transactions that are looked at.
    watch_pending_per_second: int = setting("WATCH_PENDING_PER_SECOND", whole_number(1, 10_000), 50)
    # Port of watch mode's metrics; None for none.
    metrics_port: int | None = setting("WATCH_METRICS_PORT", PORT, None)
    # The registry whose champion is used; None for the model of the checkout.
    store_url: str | None = setting("STORE_URL", TEXT, None, secret=True)
    # Interval between checks of the registry.
    model_refresh_seconds: float = setting("MODEL_REFRESH_SECONDS", number(1, 86_400), 60.0)
    # Interval between drift checks; 0 for none.
    drift_interval_minutes: float = setting("DRIFT_INTERVAL_MINUTES", number(0, 100_000), 60.0)
    # The sample of training traffic to compare with; None for the one beside the model, if any.
    drift_reference: Path | None = setting("DRIFT_REFERENCE", PATH, None)

    @property
    def is_public(self) -> bool:
        """Whether the service is reachable from other machines."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def load_service_settings(environ: Mapping[str, str] | None = None) -> ServiceSettings:
    """Read the service's settings from the environment.

    Raises:
        SettingsError: a setting is invalid, or settings contradict each other.
    """
    env = os.environ if environ is None else environ
    settings = ServiceSettings(**read_fields(ServiceSettings, env))
    _check_together(settings)
    return settings


def load_common_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings shared with the bot; no `json_rpc_url` means the embedded demo.

    The node in the Forta CLI's configuration, which is for local runs, is ignored.

    Raises:
        SettingsError: a setting is invalid.
    """
    env = os.environ if environ is None else environ
    settings = load_settings({"JSON_RPC_HOST": _NO_NODE, **env})
    if settings.json_rpc_url == f"http://{_NO_NODE}":
        return replace(settings, json_rpc_url=None)
    return settings


def database_url(settings: ServiceSettings, common: Settings) -> str:
    """The configured database, or an SQLite file; the demo has a separate file."""
    default = DEMO_DATABASE if common.json_rpc_url is None else DEFAULT_DATABASE
    return settings.database_url or f"sqlite:///{default}"


def _check_together(settings: ServiceSettings) -> None:
    if settings.is_public and not settings.api_keys:
        raise SettingsError(
            "SERVICE_API_KEYS",
            f"set while the service listens beyond loopback (SERVICE_HOST={settings.host})",
        )
    if settings.webhook_urls and not settings.webhook_secret:
        raise SettingsError(
            "WEBHOOK_SECRET", "set together with WEBHOOK_URLS, to sign the requests"
        )
