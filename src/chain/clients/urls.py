"""URLs of sources: the usual ones, which are ones at all, and what in one may be a key."""

from urllib.parse import parse_qsl, unquote, urlsplit

ETHERSCAN_URL = "https://api.etherscan.io/v2/api"
ETHPLORER_URL = "https://api.ethplorer.io"
OWNER_STORE_URL = "https://research.forta.network/database/owner/secrets.json"

_MIN_SECRET_CHARACTERS = 6


def is_http_url(text: str) -> bool:
    """Whether `text` is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def secrets_of_url(url: str) -> set[str]:
    """What in a URL may be a key: credentials, path segments and query values of some length."""
    parts = urlsplit(url)
    candidates = [parts.username or "", parts.password or "", *parts.path.split("/")]
    candidates += [value for _, value in parse_qsl(parts.query)]
    candidates += [unquote(candidate) for candidate in candidates]
    return {candidate for candidate in candidates if len(candidate) >= _MIN_SECRET_CHARACTERS}
