"""All settings and secrets of the bot.

Each setting is read from the environment, then from `secrets.json` next to `package.json` (for
local work), then, in production, from the owner's document at Forta. `.env.example` documents all
of them.
"""

import errno
import ipaddress
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from src.chain.clients.json_text import without_comments
from src.chain.clients.urls import (
    ETHERSCAN_URL,
    ETHPLORER_URL,
    OWNER_STORE_URL,
    explorer_api,
    is_http_url,
    key_in,
)
from src.chain.errors import (
    MalformedAnswer,
    PassingError,
    RateLimited,
    SourceError,
    SourceUnavailable,
)
from src.chain.quantities import as_int
from src.detection.signature import is_key, public_key
from src.files import read_file, reason
from src.variables import (
    FILE_OR_URL,
    KEY,
    MODEL,
    PATH,
    PORT,
    URL,
    Kind,
    Secret,
    SettingsError,
    number,
    read_fields,
    setting,
    variables,
    warn_of_misspelt,
    whole_number,
)

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULT_MODEL_PATH = PROJECT_ROOT / "isolation_forest.pkl"
DEFAULT_POLICY_PATH = PROJECT_ROOT / "policy.yaml"
CONFIG_NAME = "forta.config.json"
"""The Forta CLI's configuration file, in the project and in `~/.forta`."""

_SECRETS = ("ETHERSCAN_API_KEY", "ETHPLORER_API_KEY")

# The documented limit for a transaction is 30 seconds.
_MAX_LOOKUP_DEADLINE_SECONDS = 25.0
_OWNER_STORE_TIMEOUT_SECONDS = 4.0
_NODE_TIMEOUT_SECONDS = 5.0
_NODE_PAUSES = (0.5, 1.0, 2.0, 0.0)  # after each answer that may pass
MAX_CHAIN_ID = 2**63 - 1
_MAX_FILE_BYTES = 1024 * 1024

logger = logging.getLogger(__name__)

S = TypeVar("S")


def _public_key(text: str) -> str:
    if not is_key(text):
        raise ValueError
    return text


def _normal_findings(text: str) -> int:
    if text in ("all", "off"):
        return int(text == "all")
    kind, _, one_in = text.partition(":")
    if kind != "sampled":
        raise ValueError
    return whole_number(1, 1_000_000_000).parse(one_in)


_PUBLIC_KEY = Kind("an Ed25519 key of 64 hexadecimal digits", _public_key)
_ADDRESS = Kind(
    "an IP address of this machine, 0.0.0.0 for all", lambda text: str(ipaddress.ip_address(text))
)
_NORMAL_FINDINGS = Kind(
    "all, off, or sampled:K with K a whole number, one in K is emitted", _normal_findings
)
_WEEK = 10_080.0  # minutes


_EXPLORER = Kind(
    "the URL of an explorer with Etherscan's API such as Blockscout's, or "
    f"{ETHERSCAN_URL}, which serves all of Etherscan's chains",
    explorer_api,
)


def _server(text: str) -> str:
    if not is_http_url(text) or set(text) & set("?#"):  # a path is put behind it
        raise ValueError
    return text


_SERVER = Kind("the http:// or https:// URL of a server, without a query such as ?apiKey=", _server)


@dataclass(frozen=True, slots=True)
class Settings:
    """The bot's settings, which `.env.example` documents by their variables.

    None: no node, no key, the model's own threshold, a cache in memory only.
    """

    json_rpc_url: str | None = setting("JSON_RPC_URL", URL, None, secret=True)
    # The rate limit of the scan node's JSON-RPC proxy.
    json_rpc_requests_per_second: int = setting(
        "JSON_RPC_REQUESTS_PER_SECOND", whole_number(1, 10_000), 50
    )
    etherscan_url: str = setting("ETHERSCAN_URL", _EXPLORER, ETHERSCAN_URL, secret=True)
    etherscan_api_key: Secret | None = setting("ETHERSCAN_API_KEY", KEY, None, secret=True)
    ethplorer_url: str = setting("ETHPLORER_URL", _SERVER, ETHPLORER_URL, secret=True)
    ethplorer_api_key: Secret | None = setting("ETHPLORER_API_KEY", KEY, None, secret=True)
    price_api_url: str | None = setting("PRICE_API_URL", _SERVER, None, secret=True)
    anomaly_threshold: float | None = setting("ANOMALY_THRESHOLD", number(0.0, 1.0), None)
    model_path: Path = setting("MODEL_PATH", MODEL, DEFAULT_MODEL_PATH)
    # Treated as secret in errors, since people confuse the two halves of a key pair.
    model_public_key: str | None = setting("MODEL_PUBLIC_KEY", _PUBLIC_KEY, None, secret=True)
    challenger_model_path: Path | None = setting("CHALLENGER_MODEL_PATH", MODEL, None)
    attack_model_path: Path | None = setting("ATTACK_MODEL_PATH", MODEL, None)
    supervised_model_path: Path | None = setting("SUPERVISED_MODEL_PATH", MODEL, None)
    policy_path: Path = setting("POLICY_PATH", PATH, DEFAULT_POLICY_PATH)
    # Emit a finding for one in so many normal transactions; 1 for all, 0 for none.
    normal_findings: int = setting("NORMAL_FINDINGS", _NORMAL_FINDINGS, 1)
    metrics_port: int | None = setting("METRICS_PORT", PORT, None)
    metrics_address: str = setting("METRICS_ADDRESS", _ADDRESS, "127.0.0.1")
    address_list: str | None = setting("ADDRESS_LIST", FILE_OR_URL, None, secret=True)
    address_list_refresh_minutes: float = setting(
        "ADDRESS_LIST_REFRESH_MINUTES", number(0.01, _WEEK), 60.0
    )
    address_book: Path | None = setting("ADDRESS_BOOK", PATH, None)
    repeat_window_minutes: float = setting("REPEAT_WINDOW_MINUTES", number(0.0, _WEEK), 60.0)
    cache_dir: Path | None = setting("CACHE_DIR", PATH, None)
    lookup_deadline_seconds: float = setting(
        "LOOKUP_DEADLINE_SECONDS", number(0.01, _MAX_LOOKUP_DEADLINE_SECONDS), 1.0
    )
    # Of the bot, see `on_the_nodes_chain`.
    chain_id: int = setting("FORTA_CHAIN_ID", whole_number(1, MAX_CHAIN_ID), 1)
    # Between blocks; None for the usual of the chain, as far as it is known.
    block_seconds: float | None = setting("BLOCK_SECONDS", number(0.05, 3_600), None)
    is_chain_set: bool = False  # by FORTA_CHAIN_ID
    # Whether the owner's document at Forta could not be read: loading it later may add keys.
    owner_store_failed: bool = False


SETTINGS = variables(Settings)


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    project_root: Path = PROJECT_ROOT,
    home: Path | None = None,
    arguments: Sequence[str] | None = None,
) -> Settings:
    """Read all settings.

    Queries Forta's owner store only in production (`FORTA_JWT_PROVIDER_HOST` is set), only for keys
    that are not set elsewhere, and for a few seconds at most; if it fails, a warning is logged.

    Args:
        environ: the environment; None for the process's own.
        project_root: of `secrets.json` and `forta.config.json`.
        home: where `.forta/forta.config.json` is; None for the user's home.
        arguments: the command line, for its `--config FILE`; None for the process's own.

    Raises:
        SettingsError: a setting is invalid, or a file is not JSON.
    """
    env = os.environ if environ is None else environ
    warn_of_misspelt(env)
    values = _read_values(SETTINGS, env, project_root)
    if key := key_in(values.get("ETHERSCAN_URL", "")):
        values.setdefault("ETHERSCAN_API_KEY", key)
    owner_store_failed = False
    in_production = env.get("FORTA_JWT_PROVIDER_HOST", "").strip()
    if in_production and not all(name in values for name in _SECRETS):
        try:
            values = _only(SETTINGS, _ask_owner_store(env)) | values
        except SourceError as error:
            owner_store_failed = True
            logger.warning("continuing without the secrets of the owner store: %s", error)
    given = read_fields(Settings, values)
    given["json_rpc_url"] = _json_rpc_url(
        env, given.get("json_rpc_url"), project_root, home or _home(), arguments
    )
    given["model_public_key"] = given.get("model_public_key") or _public_half(env)
    return Settings(
        **given, is_chain_set="chain_id" in given, owner_store_failed=owner_store_failed
    )


def on_the_nodes_chain(settings: Settings, *, is_needed: bool = True) -> Settings:
    """The settings with the chain that the node is on, which is asked for it at the start.

    Args:
        settings: as read.
        is_needed: whether what is stored or reported would be under a wrong chain, which is worse
            than no start. The bot is told the chain of every event, and compares it.

    Raises:
        SettingsError: FORTA_CHAIN_ID is set to another chain.
        SourceUnavailable: it is not set, the node does not say its chain, and it is needed.
    """
    if settings.json_rpc_url is None:
        return settings
    chain_id, problem = _chain_of(settings.json_rpc_url)
    if not 0 < chain_id <= MAX_CHAIN_ID:
        if is_needed and not settings.is_chain_set:
            raise SourceUnavailable("node", f"{problem}; set FORTA_CHAIN_ID to go on without it")
        logger.warning(
            "the node does not say its chain (%s): going on with %d, %s", problem,
            settings.chain_id, "as FORTA_CHAIN_ID says" if settings.is_chain_set
            else "as FORTA_CHAIN_ID is not set",
        )  # fmt: skip
        return settings
    return on_chain(settings, chain_id, "the node")


def on_chain(
    settings: Settings, chain_id: int, owner: str, *, name: str = "FORTA_CHAIN_ID"
) -> Settings:
    """The settings with the chain of a node or of data.

    Args:
        settings: as read.
        chain_id: the chain.
        owner: what says so.
        name: of the setting or option that may contradict.

    Raises:
        SettingsError: another chain is set.
    """
    if settings.is_chain_set and chain_id != settings.chain_id:
        allowed = f"{chain_id}, the chain of {owner}, or unset"
        raise SettingsError(name, allowed, str(settings.chain_id))
    return replace(settings, chain_id=chain_id)


def _chain_of(json_rpc_url: str) -> tuple[int, str]:
    """The chain that the node says, or 0, and why there is none.

    On a thread, since the resolution of a name has no time limit of its own.
    """
    answer: list[tuple[int, str]] = []

    def ask() -> None:
        from src.chain.clients.rpc import JsonRpcClient  # noqa: PLC0415  `requests` is slow to import

        with closing(JsonRpcClient(json_rpc_url, timeout=_NODE_TIMEOUT_SECONDS)) as node:
            for pause in _NODE_PAUSES:
                try:
                    chain_id = as_int(node.call("eth_chainId", [])) or 0
                    answer.append((chain_id, "eth_chainId returned no chain id"))
                    return
                except SourceError as error:
                    answer.append((0, error.problem))
                    if not isinstance(error, PassingError | RateLimited | MalformedAnswer):
                        return
                time.sleep(pause)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * _NODE_TIMEOUT_SECONDS)
    return answer[-1] if answer else (0, "no answer in time")


def model_public_key(
    environ: Mapping[str, str] | None = None, *, project_root: Path = PROJECT_ROOT
) -> str | None:
    """The public key for signatures of models and policies, for commands without other settings.

    `MODEL_SIGNING_KEY`, which training commands use, is ignored here; only `MODEL_PUBLIC_KEY`
    counts.

    Raises:
        SettingsError: it is not a key, or the file is not JSON.
    """
    env = os.environ if environ is None else environ
    name = "MODEL_PUBLIC_KEY"
    text = _read_values([name], env, project_root).get(name, "").strip()
    return _PUBLIC_KEY.read(name, text, secret=True) if text else None


def read_settings(
    kind: type[S], environ: Mapping[str, str] | None = None, *, project_root: Path = PROJECT_ROOT
) -> S:
    """Read a dataclass of settings of its own, from the environment or `secrets.json`.

    Raises:
        SettingsError: a setting is invalid, or the file is not JSON.
    """
    env = os.environ if environ is None else environ
    return kind(**read_fields(kind, _read_values(variables(kind), env, project_root)))


def _read_values(
    names: Collection[str], env: Mapping[str, str], project_root: Path
) -> dict[str, str]:
    """The settings of these names, from the environment, else from `secrets.json`."""
    values = _only(names, _read_json(project_root / "secrets.json"))
    return values | {name: env[name] for name in names if env.get(name, "").strip()}


def _json_rpc_url(
    env: Mapping[str, str],
    own: str | None,
    project_root: Path,
    home: Path,
    arguments: Sequence[str] | None,
) -> str | None:
    """The node's URL: from `--config FILE`, our setting, the scan node, or the Forta CLI's file.

    `scripts/forta.mjs` uses the same order for the CLI. The SDK's default is never used, since it
    does not answer.
    """
    words = pairwise(sys.argv if arguments is None else arguments)
    named = next((value for option, value in words if option == "--config"), None)
    if named is not None and (url := _config_url(project_root / named)):
        return url
    if own:
        return own
    if host := env.get("JSON_RPC_HOST", "").strip():
        port = env.get("JSON_RPC_PORT", "").strip()
        url = f"http://{host}:{port}" if port else f"http://{host}"
        return URL.read("JSON_RPC_HOST", url, secret=True)
    if named is None and (url := _config_url(project_root / CONFIG_NAME)):
        return url
    return _config_url(home / ".forta" / CONFIG_NAME)


def _config_url(path: Path) -> str | None:
    """The node's URL in a configuration file of the Forta CLI, or None."""
    url = _read_json(path).get("jsonRpcUrl")
    if isinstance(url, str) and url.strip():
        return URL.read(f"jsonRpcUrl in {path.name}", url.strip(), secret=True)
    return None


def _ask_owner_store(env: Mapping[str, str]) -> dict[str, Any]:
    from src.chain.clients import owner_store  # noqa: PLC0415 - `requests` is a slow import

    host = env["FORTA_JWT_PROVIDER_HOST"].strip()
    port = env.get("FORTA_JWT_PROVIDER_PORT", "").strip() or owner_store.TOKEN_PROVIDER_PORT
    store = env.get("FORTA_OWNER_STORE_URL", "").strip() or OWNER_STORE_URL
    return owner_store.fetch_owner_secrets(
        URL.read("FORTA_JWT_PROVIDER_HOST", f"http://{host}:{port}", secret=True),
        URL.read("FORTA_OWNER_STORE_URL", store, secret=True),
        timeout=_OWNER_STORE_TIMEOUT_SECONDS,
    )


def _only(names: Collection[str], document: Mapping[str, Any]) -> dict[str, str]:
    """These settings of a document: at its top level or, as usual at Forta, in `apiKeys`."""
    nested = document.get("apiKeys")
    flat = {**(nested if isinstance(nested, dict) else {}), **document}
    return {
        name: str(flat[name])
        for name in names
        if isinstance(flat.get(name), (str, int, float)) and str(flat[name]).strip()
    }


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, with comments as the Forta CLI allows them; empty when there is no file."""
    try:
        text = read_file(path, _MAX_FILE_BYTES).decode("utf-8-sig", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise SettingsError(path.name, "a JSON file of at most 1 MB") from None
        logger.warning("%s cannot be read (%s)", path.name, reason(error))
        return {}
    try:
        document = json.loads(without_comments(text))
    except (ValueError, RecursionError):  # its message quotes the file, which contains secrets
        document = None
    if not isinstance(document, dict):
        raise SettingsError(path.name, "a JSON object")
    return document


def _public_half(env: Mapping[str, str]) -> str | None:
    """The public key of a private key, if only the private one is set.

    A key setting must never be ignored, although the private key does not belong where the bot
    runs.
    """
    private = env.get("MODEL_SIGNING_KEY", "").strip()
    if not private:
        return None
    logger.warning("MODEL_SIGNING_KEY is private: give the bot MODEL_PUBLIC_KEY instead")
    return public_key(_PUBLIC_KEY.read("MODEL_SIGNING_KEY", private, secret=True))


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container user without an entry in /etc/passwd
        return Path("/")
