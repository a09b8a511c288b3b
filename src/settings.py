"""Every setting and secret of the bot, in one typed place.

Each setting is looked for in the environment, then in `secrets.json` beside `package.json` (for
work on one's own machine), then, in production, in the owner's document at Forta. `.env.example`
describes them all.
"""

import ipaddress
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from src.chain.clients import etherscan, ethplorer, owner_store
from src.chain.clients.http import is_http_url
from src.chain.clients.json_text import without_comments
from src.chain.errors import SourceError
from src.detection.signature import is_key, public_key
from src.files import reason

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULT_MODEL_PATH = PROJECT_ROOT / "isolation_forest.pkl"
DEFAULT_POLICY_PATH = PROJECT_ROOT / "policy.yaml"
CONFIG_NAME = "forta.config.json"
"""The Forta CLI's configuration file, in the project and in `~/.forta`."""
DEFAULT_ADDRESS_LIST_REFRESH_MINUTES = 60.0
DEFAULT_REPEAT_WINDOW_MINUTES = 60.0
DEFAULT_LOOKUP_DEADLINE_SECONDS = 1.0
DEFAULT_JSON_RPC_REQUESTS_PER_SECOND = 50
"""What the scan node's JSON-RPC proxy allows."""

SETTINGS = (
    "JSON_RPC_URL",
    "JSON_RPC_REQUESTS_PER_SECOND",
    "ETHERSCAN_URL",
    "ETHERSCAN_API_KEY",
    "ETHPLORER_URL",
    "ETHPLORER_API_KEY",
    "ANOMALY_THRESHOLD",
    "MODEL_PATH",
    "MODEL_PUBLIC_KEY",
    "CHALLENGER_MODEL_PATH",
    "SUPERVISED_MODEL_PATH",
    "POLICY_PATH",
    "NORMAL_FINDINGS",
    "METRICS_PORT",
    "METRICS_ADDRESS",
    "ADDRESS_LIST",
    "ADDRESS_LIST_REFRESH_MINUTES",
    "REPEAT_WINDOW_MINUTES",
    "CACHE_DIR",
    "LOOKUP_DEADLINE_SECONDS",
    "FORTA_CHAIN_ID",
)
_SECRETS = ("ETHERSCAN_API_KEY", "ETHPLORER_API_KEY")

# The docs give a transaction 30 seconds in all.
_MAX_LOOKUP_DEADLINE_SECONDS = 25.0
_OWNER_STORE_TIMEOUT_SECONDS = 4.0
_MAX_FILE_BYTES = 1024 * 1024

T = TypeVar("T")

logger = logging.getLogger(__name__)


class SettingsError(ValueError):
    """A setting has a value that it cannot have. Names the setting and what it can be."""

    def __init__(self, name: str, allowed: str) -> None:
        super().__init__(f"{name} must be {allowed}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Settings:
    """The bot's settings.

    Attributes:
        json_rpc_url: the node; None when there is none.
        json_rpc_requests_per_second: requests that the node allows.
        etherscan_url: Etherscan V2 or a compatible explorer.
        etherscan_api_key: None when there is none.
        ethplorer_url: Ethplorer's API.
        ethplorer_api_key: None when there is none.
        anomaly_threshold: score from which a transaction is an anomaly, in [0, 1]; None for the
            model's own.
        model_path: the model file; its manifest lies beside it.
        model_public_key: whose signature models and the policy must carry; None for nobody's.
        challenger_model_path: a second model that scores in shadow, or None.
        supervised_model_path: the classifier of the policy's `supervised` detector, or None.
        policy_path: which detectors run, and how.
        normal_findings: how many normal transactions there are to one finding: 1 for a finding
            each, 0 for none.
        metrics_port: where Prometheus metrics are served; 0 for any free port, None for nowhere.
        metrics_address: the interface of that port.
        address_list: path or URL of known bad addresses, or None.
        address_list_refresh_minutes: between two readings of a URL.
        repeat_window_minutes: how long findings of rules like one emitted are counted instead of
            emitted; 0 for never.
        cache_dir: where facts survive restarts; None for memory only.
        lookup_deadline_seconds: all waiting for the outside world for one transaction.
        chain_id: the chain watched.
        owner_store_failed: whether the owner's document at Forta could not be read, so that
            loading again later may give more.
    """

    json_rpc_url: str | None = field(default=None, repr=False)
    json_rpc_requests_per_second: int = DEFAULT_JSON_RPC_REQUESTS_PER_SECOND
    etherscan_url: str = field(default=etherscan.DEFAULT_URL, repr=False)
    etherscan_api_key: str | None = field(default=None, repr=False)
    ethplorer_url: str = field(default=ethplorer.DEFAULT_URL, repr=False)
    ethplorer_api_key: str | None = field(default=None, repr=False)
    anomaly_threshold: float | None = None
    model_path: Path = DEFAULT_MODEL_PATH
    model_public_key: str | None = None
    challenger_model_path: Path | None = None
    supervised_model_path: Path | None = None
    policy_path: Path = DEFAULT_POLICY_PATH
    normal_findings: int = 1
    metrics_port: int | None = None
    metrics_address: str = "127.0.0.1"
    address_list: str | None = field(default=None, repr=False)
    address_list_refresh_minutes: float = DEFAULT_ADDRESS_LIST_REFRESH_MINUTES
    repeat_window_minutes: float = DEFAULT_REPEAT_WINDOW_MINUTES
    cache_dir: Path | None = None
    lookup_deadline_seconds: float = DEFAULT_LOOKUP_DEADLINE_SECONDS
    chain_id: int = 1
    owner_store_failed: bool = False


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    project_root: Path = PROJECT_ROOT,
    home: Path | None = None,
    arguments: Sequence[str] | None = None,
) -> Settings:
    """Read all settings.

    Asks Forta's owner store only in production (`FORTA_JWT_PROVIDER_HOST` is set) and only for keys
    that are nowhere else, for a few seconds at most; a failing store costs a warning and the keys.

    Args:
        environ: the environment; None for the process's own.
        project_root: where `secrets.json` and `forta.config.json` are.
        home: where `.forta/forta.config.json` is; None for the user's home.
        arguments: the command line, where `--config FILE` names another `forta.config.json`, as
            the Forta CLI and SDK understand it; None for the process's own.

    Raises:
        SettingsError: a setting has an impossible value, or a file is not JSON.
    """
    env = os.environ if environ is None else environ
    values = _only_settings(_read_json(project_root / "secrets.json"))
    values |= {name: env[name] for name in SETTINGS if env.get(name, "").strip()}
    owner_store_failed = False
    if env.get("FORTA_JWT_PROVIDER_HOST") and not all(name in values for name in _SECRETS):
        try:
            values = _only_settings(_ask_owner_store(env)) | values
        except SourceError as error:
            owner_store_failed = True
            logger.warning("going on without the secrets of the owner store: %s", error)
    return Settings(
        json_rpc_url=_json_rpc_url(env, values, project_root, home or _home(), arguments),
        json_rpc_requests_per_second=_get(
            values,
            "JSON_RPC_REQUESTS_PER_SECOND",
            DEFAULT_JSON_RPC_REQUESTS_PER_SECOND,
            _whole_number(1, 10_000),
        ),
        etherscan_url=_get(values, "ETHERSCAN_URL", etherscan.DEFAULT_URL, _url),
        etherscan_api_key=_get(values, "ETHERSCAN_API_KEY", None, _key),
        ethplorer_url=_get(values, "ETHPLORER_URL", ethplorer.DEFAULT_URL, _url),
        ethplorer_api_key=_get(values, "ETHPLORER_API_KEY", None, _key),
        anomaly_threshold=_get(values, "ANOMALY_THRESHOLD", None, _number(0.0, 1.0)),
        model_path=_get(values, "MODEL_PATH", DEFAULT_MODEL_PATH, read_path),
        model_public_key=_model_public_key(env, values),
        challenger_model_path=_get(values, "CHALLENGER_MODEL_PATH", None, read_path),
        supervised_model_path=_get(values, "SUPERVISED_MODEL_PATH", None, read_path),
        policy_path=_get(values, "POLICY_PATH", DEFAULT_POLICY_PATH, read_path),
        normal_findings=_get(values, "NORMAL_FINDINGS", 1, _normal_findings),
        metrics_port=_get(values, "METRICS_PORT", None, _whole_number(0, 65_535)),
        metrics_address=_get(values, "METRICS_ADDRESS", "127.0.0.1", _address),
        address_list=_get(values, "ADDRESS_LIST", None, _file_or_url),
        address_list_refresh_minutes=_get(
            values,
            "ADDRESS_LIST_REFRESH_MINUTES",
            DEFAULT_ADDRESS_LIST_REFRESH_MINUTES,
            _number(0.01, 10_080.0),
        ),
        repeat_window_minutes=_get(
            values,
            "REPEAT_WINDOW_MINUTES",
            DEFAULT_REPEAT_WINDOW_MINUTES,
            _number(0.0, 10_080.0),
        ),
        cache_dir=_get(values, "CACHE_DIR", None, read_path),
        lookup_deadline_seconds=_get(
            values,
            "LOOKUP_DEADLINE_SECONDS",
            DEFAULT_LOOKUP_DEADLINE_SECONDS,
            _number(0.01, _MAX_LOOKUP_DEADLINE_SECONDS),
        ),
        chain_id=_get(values, "FORTA_CHAIN_ID", 1, _whole_number(1, 2**63 - 1)),
        owner_store_failed=owner_store_failed,
    )


def model_public_key(
    environ: Mapping[str, str] | None = None, *, project_root: Path = PROJECT_ROOT
) -> str | None:
    """Whose signature models and policies must carry, for commands that need no other setting.

    Beside `MODEL_SIGNING_KEY`, which commands that train sign with, only `MODEL_PUBLIC_KEY` counts
    here.

    Args:
        environ: the environment; None for the process's own.
        project_root: where `secrets.json` is.

    Raises:
        SettingsError: it is no key, or the file is not JSON.
    """
    env = os.environ if environ is None else environ
    values = _only_settings(_read_json(project_root / "secrets.json"))
    values |= {name: env[name] for name in ("MODEL_PUBLIC_KEY",) if env.get(name, "").strip()}
    return _get(values, "MODEL_PUBLIC_KEY", None, _public_key)


def _json_rpc_url(
    env: Mapping[str, str],
    values: Mapping[str, str],
    project_root: Path,
    home: Path,
    arguments: Sequence[str] | None,
) -> str | None:
    """The node: that of `--config FILE`, our own setting, the scan node's, that of the Forta CLI.

    `scripts/forta.mjs` resolves it in the same order for the CLI. Never the SDK's default, which
    does not answer.
    """
    named = _named_config(sys.argv if arguments is None else arguments)
    if named is not None and (url := _config_url(project_root / named)):
        return url
    if "JSON_RPC_URL" in values:
        return _url("JSON_RPC_URL", values["JSON_RPC_URL"])
    if host := env.get("JSON_RPC_HOST", "").strip():
        port = env.get("JSON_RPC_PORT", "").strip()
        return _url("JSON_RPC_HOST", f"http://{host}:{port}" if port else f"http://{host}")
    if named is None and (url := _config_url(project_root / CONFIG_NAME)):
        return url
    return _config_url(home / ".forta" / CONFIG_NAME)


def _config_url(path: Path) -> str | None:
    """The node's URL in a configuration file of the Forta CLI, or None."""
    url = _read_json(path).get("jsonRpcUrl")
    if isinstance(url, str) and url.strip():
        return _url(f"jsonRpcUrl in {path.name}", url.strip())
    return None


def _named_config(arguments: Sequence[str]) -> str | None:
    """The file after `--config` on the Forta CLI's command line, or None."""
    for option, value in pairwise(arguments):
        if option == "--config":
            return value
    return None


def _ask_owner_store(env: Mapping[str, str]) -> dict[str, Any]:
    host = env["FORTA_JWT_PROVIDER_HOST"]
    port = env.get("FORTA_JWT_PROVIDER_PORT") or str(owner_store.TOKEN_PROVIDER_PORT)
    return owner_store.fetch_owner_secrets(
        _url("FORTA_JWT_PROVIDER_HOST", f"http://{host}:{port}"),
        _url("FORTA_OWNER_STORE_URL", env.get("FORTA_OWNER_STORE_URL") or owner_store.DEFAULT_URL),
        timeout=_OWNER_STORE_TIMEOUT_SECONDS,
    )


def _only_settings(document: Mapping[str, Any]) -> dict[str, str]:
    """Our settings in a document of secrets: at its top or, as Forta's bots do, in `apiKeys`."""
    nested = document.get("apiKeys")
    flat = {**(nested if isinstance(nested, dict) else {}), **document}
    return {
        name: str(flat[name])
        for name in SETTINGS
        if isinstance(flat.get(name), (str, int, float)) and str(flat[name]).strip()
    }


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, with comments as the Forta CLI allows them; empty when there is no file."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise SettingsError(path.name, "a JSON file of at most 1 MB")
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        logger.warning("%s cannot be read (%s)", path.name, reason(error))
        return {}
    try:
        document = json.loads(without_comments(text))
    except (ValueError, RecursionError):  # what it says repeats the file, and with it the secrets
        document = None
    if not isinstance(document, dict):
        raise SettingsError(path.name, "a JSON object")
    return document


def _get(values: Mapping[str, str], name: str, default: T, read: Callable[[str, str], T]) -> T:
    return read(name, values[name].strip()) if name in values else default


def _url(name: str, text: str) -> str:
    if not is_http_url(text):
        raise SettingsError(name, "an http:// or https:// URL")
    return text


def _key(name: str, text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise SettingsError(name, "a key of printable ASCII characters")
    return text


def _model_public_key(env: Mapping[str, str], values: Mapping[str, str]) -> str | None:
    """The key that models must be signed with; its private half, if that is what is there, will do.

    A setting that names a key must never be passed over, though the private one does not belong
    where the bot runs.
    """
    private = env.get("MODEL_SIGNING_KEY", "").strip()
    if private and "MODEL_PUBLIC_KEY" not in values:
        logger.warning("MODEL_SIGNING_KEY is private: give the bot MODEL_PUBLIC_KEY instead")
        return public_key(_public_key("MODEL_SIGNING_KEY", private))
    return _get(values, "MODEL_PUBLIC_KEY", None, _public_key)


def _public_key(name: str, text: str) -> str:
    if not is_key(text):
        raise SettingsError(name, "an Ed25519 key of 64 hexadecimal digits")
    return text


def _address(name: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise SettingsError(name, "an IP address of this machine, 0.0.0.0 for all") from None


def read_path(name: str, text: str) -> Path:
    """The path that a setting names. Raises SettingsError."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise SettingsError(name, "a path; this user has no home folder for ~") from None


def _normal_findings(name: str, text: str) -> int:
    fixed = {"all": 1, "off": 0}
    if text in fixed:
        return fixed[text]
    kind, _, number = text.partition(":")
    if kind == "sampled":
        try:
            return _whole_number(1, 1_000_000_000)(name, number)
        except SettingsError:
            pass
    raise SettingsError(name, "all, off, or sampled:K with K a whole number, one in K is emitted")


def _file_or_url(name: str, text: str) -> str:
    if "://" in text:
        return _url(name, text)
    return str(read_path(name, text))


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container's user without an entry in /etc/passwd
        return Path("/")


def _number(low: float, high: float) -> Callable[[str, str], float]:
    def read(name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise SettingsError(name, f"a number from {low:g} to {high:g}")
        return value

    return read


def _whole_number(low: int, high: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise SettingsError(name, f"a whole number from {low} to {high}")
        return int(text)

    return read
