"""URLs of sources: defaults, validation, and the parts that may be keys."""

import re
from base64 import b64encode
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlsplit, urlunsplit

ETHERSCAN_URL = "https://api.etherscan.io/v2/api"
ETHPLORER_URL = "https://api.ethplorer.io"
OWNER_STORE_URL = "https://research.forta.network/database/owner/secrets.json"

_MIN_SECRET_CHARACTERS = 6
_ETHERSCAN_HOSTS = re.compile(r"((www|api)\.)?etherscan\.io|((www|cn|api-cn)\.)?etherscan\.com")
# Hosts of Etherscan's first API, which ended, and of its sites for other chains. The second API
# serves them all at one address.
_ENDED_HOST = re.compile(
    r"(?:[a-z0-9-]+\.)*(?:etherscan\.io|bscscan\.com|polygonscan\.com|basescan\.org|arbiscan\.io"
    r"|ftmscan\.com|snowscan\.xyz|lineascan\.build|scrollscan\.com|blastscan\.io"
    r"|gnosisscan\.io|celoscan\.io|moonscan\.io|cronoscan\.com|sonicscan\.org|mantlescan\.xyz"
    r"|taikoscan\.io|fraxscan\.com|wemixscan\.com|bttcscan\.com|worldscan\.org|apescan\.io"
    r"|uniscan\.xyz|abscan\.org|berascan\.com)"
)
# Pages of an explorer, by the first segment of their paths.
_PAGES = frozenset({
    "address", "addresses", "account", "accounts", "block", "blocks", "blockchain", "tx", "txs",
    "transaction", "transactions", "token", "tokens", "token-transfers", "tokentxns", "nft",
    "nfts", "api-docs", "apis", "docs", "swagger", "eth-rpc", "stats", "chart", "charts",
    "verified-contracts", "contract", "contracts", "contract-verification", "search",
    "search-results", "graphiql", "gas-tracker", "gastracker", "advanced-filter",
    "internal-txs", "withdrawals", "deposits", "batches", "blobs", "output-roots",
    "dispute-games", "op", "ops", "operation", "operations", "user-ops", "pools", "mud-worlds",
    "validators", "public-tags", "name-domains", "name-services", "csv-export", "visualize",
    "apps", "auth", "login", "myapikey", "home", "index.html", "en", "zh",
})  # fmt: skip


def is_http_url(text: str) -> bool:
    """Whether `text` is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        is_one = text.isprintable() and " " not in text  # line breaks are no part of `parts`
        has_host = bool(parts.hostname) and parts.port != 0
        return is_one and has_host and parts.scheme in ("http", "https")
    except ValueError:
        return False


def explorer_api(text: str) -> str:
    """The API's URL of an explorer, from any of its URLs that people paste.

    Etherscan's is `/v2/api`. That of Blockscout and other explorers with the same API ends in
    `/api`; a page's path, the REST API's (`/api/v2`) and a query are dropped. Idempotent.

    Raises:
        ValueError: it is no http(s) URL, or names an API that has ended.
    """
    if not is_http_url(text):
        raise ValueError("not a URL")
    parts = urlsplit(text)
    host = (parts.hostname or "").lower().rstrip(".")
    if _ETHERSCAN_HOSTS.fullmatch(host):
        return ETHERSCAN_URL
    if _ENDED_HOST.fullmatch(host):
        raise ValueError(f"{host} has no such API any more")
    segments = [segment for segment in parts.path.split("/") if segment]
    lower = [segment.lower() for segment in segments]
    if "api" in lower:
        segments = segments[: lower.index("api")]
    else:
        page = next((i for i, segment in enumerate(lower) if segment in _PAGES), len(segments))
        segments = segments[:page]
    return urlunsplit((parts.scheme, parts.netloc, "/".join(["", *segments, "api"]), "", ""))


def key_in(text: str) -> str:
    """The API key in the URL of a request that somebody pasted, or ""."""
    query = parse_qsl(text.partition("#")[0].partition("?")[2])
    return next((value for name, value in query if name.lower() == "apikey"), "")


def secrets_of_url(url: str) -> set[str]:
    """Parts of a URL that may be keys, in each form in which a server may repeat them.

    Credentials, long path segments and query values.
    """
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    values = [pair.partition("=")[2] or pair for pair in parts.query.split("&")]
    candidates = [user, password, *parts.path.split("/"), *values]
    forms = {form(one) for form in (str, quote, unquote, unquote_plus) for one in candidates}
    if parts.username:  # as the header `Authorization` has them
        forms.add(b64encode(f"{user}:{password}".encode()).decode())
    return {form for form in forms if len(form) >= _MIN_SECRET_CHARACTERS}
