"""URLs of sources: defaults, validation, and the parts that may be keys."""

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
    """Parts of a URL that may be keys: credentials, long path segments and query values."""
    parts = urlsplit(url)
    candidates = [parts.username or "", parts.password or "", *parts.path.split("/")]
    candidates += [value for _, value in parse_qsl(parts.query)]
    candidates += [unquote(candidate) for candidate in candidates]
    return {candidate for candidate in candidates if len(candidate) >= _MIN_SECRET_CHARACTERS}
