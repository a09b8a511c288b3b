"""The embedded demo's chain, in the tests' words."""

from pathlib import Path

from src.service.settings import ServiceSettings
from src.settings import Settings
from tests.support.waiting import FOR_EVER

THEFT = "0x721212100cd01133abdfce5c7fb9bdc2d1b13de542450f312bf12c25b95dfd0b"
HEAD = 385
BASE_URL = "http://127.0.0.1"


def service_settings(database_url: str, **changes: object) -> ServiceSettings:
    usual = {
        "node_patience": 0.2, "request_seconds": FOR_EVER, "requests_per_second": 100_000,
        "workers": 1,
    }  # fmt: skip
    return ServiceSettings(database_url=database_url, **(usual | changes))


def common_settings(url: str | None = None, **changes: object) -> Settings:
    usual = {"json_rpc_requests_per_second": 10_000, "lookup_deadline_seconds": FOR_EVER}
    return Settings(json_rpc_url=url, **(usual | changes))


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'service.db'}"
