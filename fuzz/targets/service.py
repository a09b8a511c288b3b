"""The analysis service: hostile requests through the real application, without a socket.

Every route that the application has is asked, so a new one is under attack without a word here;
templates only make it likelier that a request gets past the first check.
"""

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urlencode

from fuzz.data import Data
from fuzz.oracles import TRANSFER_TOPIC, expect
from fuzz.target import Bench, Target
from src.chain.text import BRIDGE_MARKERS

_KEY = "PLANTED-SERVICE-API-KEY"
_EXPLORER_KEY = "PLANTED-EXPLORER-API-KEY"
_THEFT = "0x721212100cd01133abdfce5c7fb9bdc2d1b13de542450f312bf12c25b95dfd0b"
_ADDRESS = "0x" + "a1" * 20
_USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
_CSRF = "c" * 40
_INPUTS = ("Amount", "Time")
_LOG = {
    "address": _USDC,
    "topics": [TRANSFER_TOPIC, "0x" + "a1".rjust(64, "0"), "0x" + "b2".rjust(64, "0")],
    "data": f"0x{10_000:064x}",
    "logIndex": "0x1",
}
_BODIES: Mapping[str, Any] = {
    "/anomaly_detection/": {"start_block": 384, "end_block": 385, "use_pre_trained_model": True},
    "/decisions": {
        "transaction": {"from": _ADDRESS, "to": _USDC, "hash": _THEFT, "nonce": "0x1"},
        "block": {"number": 20_000_000, "timestamp": "0x6650a1b0"},
        "logs": [_LOG, _LOG | {"logIndex": 2}],
    },
    "/alerts/{alert}/feedback": {"is_true_positive": False, "note": "known"},
    "/predict": {"Amount": 1.5, "Time": 2},
    "/predict_fraud": {"Amount": 1.5, "Time": 2},
}
_FORMS: Mapping[str, str] = {
    "csrf": _CSRF, "verdict": "true", "note": "known", "back": "/ui/alerts#alert-1",
    "start_block": "384", "end_block": "385", "model": "latest",
}  # fmt: skip
_PATHS: Mapping[str, tuple[str, ...]] = {
    "tx_hash": (_THEFT, _THEFT.upper(), "0x" + "0" * 64),
    "alert": ("1", "2", "-1", "9" * 25),
    "job_id": ("a" * 32,),
    "identity": ("b" * 64,),
    "path": ("x", "static/../x", "../../etc/passwd"),
}
_FILES = (
    "style.css", "live.js", "../pages.py", "..%2f..%2fapp.py", "/etc/passwd", "%00",
    "swagger-ui.css",
)  # fmt: skip
_QUERY = (
    "limit", "offset", "details", "per_transfer", "include_normal", "since", "until", "action",
    "severity", "token", "sender", "alert_id", "with_feedback", "orphaned", "sort", "order", "page",
    "judged", "span", "tx",
)  # fmt: skip
_VALUES = (
    "1", "0", "true", "time", "score", "asc", "all", "BLOCK", "High", "yes", _ADDRESS, _THEFT,
    "2024-05-30T12:00", "9" * 19, "-1", "1e3",
)  # fmt: skip
_TYPES = (
    "application/json", "application/json; charset=utf-16", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "multipart/form-data", "text/html", "application/x-parquet",
)  # fmt: skip
_HEADERS: tuple[tuple[str, str], ...] = (
    ("content-encoding", "gzip"), ("content-length", "9" * 30), ("content-length", "0"),
    ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example"),
    ("authorization", "Bearer wrong"), ("authorization", "Basic " + "A" * 40), ("x-api-key", ""),
    ("prefer", "respond-async"), ("x-request-id", "<script>alert(1)</script>"),
    ("x-forwarded-proto", "https"), ("range", "bytes=0-1,5-9"), ("if-none-match", "*"),
    ("accept", "text/html"), ("cookie", "ui_csrf=" + "d" * 40), ("transfer-encoding", "chunked"),
)  # fmt: skip
_OPEN = frozenset({"/healthz", "/readyz"})
_BUSY = frozenset({503, 504})
_WANTED = ("content-security-policy", "x-content-type-options", "referrer-policy", "x-request-id")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class _World:
    """The service on its embedded demo, driven as an ASGI server drives it."""

    def __init__(self, bench: Bench) -> None:
        from fastapi.routing import iter_route_contexts  # noqa: PLC0415

        from src.service.app import create_app  # noqa: PLC0415 - the code under attack
        from src.service.settings import ApiKey, ServiceSettings  # noqa: PLC0415
        from src.settings import Settings  # noqa: PLC0415
        from src.variables import Secret  # noqa: PLC0415

        settings = ServiceSettings(
            host="0.0.0.0",  # nothing listens
            database_url=f"sqlite:///{bench.folder / 'service.db'}",
            api_keys=(ApiKey("fuzz", hashlib.sha256(_KEY.encode()).digest()),),
            requests_per_second=1_000_000,
            workers=1,
            max_body_bytes=256 * 1024,
            max_blocks=20,
            direct_blocks=2,  # each training takes a tenth of a second
            max_jobs=2,
            node_patience=0.2,
            drift_interval_minutes=0,
            fraud_model_path=_fraud_model(bench),
        )
        common = Settings(etherscan_api_key=Secret(_EXPLORER_KEY))
        guarded: Any = create_app(settings, common)
        logging.getLogger().handlers.clear()
        logging.getLogger("src").setLevel(logging.ERROR)
        self.failures = _Failures()
        logging.getLogger("src").addHandler(self.failures)
        self._app = guarded
        self._loop = asyncio.new_event_loop()
        self._opened = AsyncExitStack()
        lifespan = guarded.app.router.lifespan_context(guarded.app)
        self._loop.run_until_complete(self._opened.enter_async_context(lifespan))
        self._folder = str(bench.folder)
        routes = [
            (method, str(context.path))
            for context in iter_route_contexts(guarded.app.routes)
            for method in sorted(context.methods or ("GET",))
        ]
        self.pages = [one for one in routes if one[1] == "/" or one[1].startswith(("/ui", "/docs"))]
        self.api = [one for one in routes if one not in self.pages]

    def ask(
        self, method: str, path: str, query: str, headers: list[tuple[str, str]], body: bytes
    ) -> _Answer:
        """One request; what comes of it must be a well-formed answer."""
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not messages:  # the client stays, as long as it is answered
                await asyncio.Event().wait()
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(path, errors="replace"), "root_path": "",
            "raw_path": path.encode("utf-8", "replace"),
            "query_string": query.encode("utf-8", "replace"),
            "headers": [(n.encode(), v.encode("latin-1", "replace")) for n, v in headers],
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8080),
        }  # fmt: skip
        self._loop.run_until_complete(self._app(scope, receive, send))
        expect(len(sent) >= 2, "crash", f"{method} {path}: no answer")
        start, *parts = sent
        expect(start["type"] == "http.response.start", "crash", start)
        expect(not parts[-1].get("more_body"), "hang", "an answer without an end")
        given = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return _Answer(start["status"], given, b"".join(part.get("body", b"") for part in parts))

    def check(self, answer: _Answer, *, knows_key: bool, path: str) -> None:
        """What must hold for every answer."""
        if self.failures.caught is not None:
            caught, self.failures.caught = self.failures.caught, None
            raise caught
        good = 200 <= answer.status < 500 or answer.status in _BUSY
        expect(good, "crash", f"{answer.status}: {answer.body[:300]!r}")
        if not knows_key and unquote(path, errors="replace") not in _OPEN:
            expect(answer.status >= 400, "leak", f"{answer.status} without a key")
        for name in _WANTED:
            expect(name in answer.headers, "leak", f"no {name} with {answer.status}")
        policy = answer.headers["content-security-policy"]
        expect("default-src 'none'" in policy, "leak", policy)
        expect("script-src 'self' 'unsafe" not in policy, "leak", policy)
        for name, value in answer.headers.items():
            expect(not any(c in value for c in "\r\n\0"), "leak", f"{name}: {value!r}")
        text = answer.body.decode("utf-8", "replace")
        for secret in (_KEY, _EXPLORER_KEY, self._folder, "Traceback (most recent"):
            expect(secret not in text, "leak", f"{secret} in an answer")
        kind = answer.headers.get("content-type", "")
        if "json" in kind and text:  # the answer to HEAD has none
            expect(not any(marker in text for marker in BRIDGE_MARKERS), "marker", text)
            _check_finite(json.loads(text, parse_constant=_refuse_constant))
        elif kind.startswith("text/html"):
            _Page(text)


class _Failures(logging.Handler):
    """Keeps what the service logs with a traceback: the place of a 500, or of a thread's end."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.caught: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.caught = record.exc_info[1]


class _Page(HTMLParser):
    """A page holds no script but files of ours, no handler, and no address that is a script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        values = {name: value or "" for name, value in attrs}
        source = values.get("src", "")
        expect(tag not in {"iframe", "object", "embed", "base"}, "leak", f"a <{tag}>")
        if tag in {"script", "img"} and source:
            expect(source.startswith(("/ui/static/", "/docs/assets/")), "leak", f"{tag} {source}")
        for name, value in values.items():
            expect(not name.startswith("on") and name != "style", "leak", f"{name}={value!r}")
            if name in {"href", "action", "formaction", "xlink:href"}:
                ours = value.startswith(("/", "#", "https://")) and not value.startswith("//")
                expect(ours, "leak", f"{name}={value!r}")

    def handle_data(self, data: str) -> None:
        """See HTMLParser."""
        if self.lasttag == "script" and self.cdata_elem is not None:
            expect("SwaggerUIBundle" in data, "leak", f"a script that says {data[:80]!r}")


def _refuse_constant(name: str) -> float:
    expect(False, "non-finite", f"{name} in an answer")
    return math.nan


def _check_finite(value: Any) -> None:
    if isinstance(value, float):
        expect(math.isfinite(value), "non-finite", "a number beyond every float in an answer")
    elif isinstance(value, dict):
        for part in value.values():
            _check_finite(part)
    elif isinstance(value, list):
        for part in value:
            _check_finite(part)


def _fraud_model(bench: Bench) -> Any:
    """A small supervised model in a folder of its own, and where it is."""
    import numpy as np  # noqa: PLC0415
    from sklearn.base import clone  # noqa: PLC0415

    from src.training.supervised.bundle import write_fraud_bundle  # noqa: PLC0415
    from src.training.supervised.candidates import candidates  # noqa: PLC0415

    rows = np.random.default_rng(0).normal(size=(200, len(_INPUTS)))
    (candidate,) = [one for one in candidates(0) if one.name == "LogisticRegression"]
    path = bench.folder / "fraud_model.npz"
    write_fraud_bundle(
        path, name=candidate.name, pipeline=clone(candidate.pipeline()).fit(rows, rows[:, 0] > 1),
        inputs=_INPUTS, label="Class", threshold=0.5, training_rows=rows,
        model_version=1_650_000_000, training={},
    )  # fmt: skip
    return path


def _path_of(data: Data, template: str) -> str:
    """A route's path with its parts filled in, and now and then any other."""
    if data.one_in(32):
        return "/" + quote(data.text(), safe="/%.;", errors="replace")
    if template in {"/ui/static", "/docs/assets"}:
        return f"{template}/{data.pick(_FILES)}"
    path = template
    for name, honest in _PATHS.items():
        for marker in (f"{{{name}}}", f"{{{name}:path}}"):
            if marker in path:
                value = data.pick(honest) if not data.one_in(4) else data.text()
                path = path.replace(marker, quote(value, safe="/%", errors="replace"))
    return path


def _query_of(data: Data) -> str:
    """Names and values that some route knows, mixed with what none does."""
    pairs = [
        (
            data.pick(_QUERY) if not data.one_in(8) else data.text(),
            data.pick(_VALUES) if not data.one_in(4) else data.text(),
        )
        for _ in range(data.byte() % 4)
    ]
    return urlencode(pairs, errors="replace") if not data.one_in(16) else data.text()


def _form_of(data: Data) -> bytes:
    """A form's fields, some altered."""
    fields = data.altered(dict(_FORMS))
    if not isinstance(fields, dict) or data.one_in(16):
        return data.rest()
    return urlencode({str(k): str(v) for k, v in fields.items()}, errors="replace").encode()


def _request(
    data: Data, method: str, template: str
) -> tuple[str, str, str, list[tuple[str, str]], bytes, bool]:
    """Method, path, query, headers, body, and whether a key is shown."""
    method = method if not data.one_in(32) else data.pick(("PUT", "HEAD", "OPTIONS", "X" * 90))
    path, query = _path_of(data, template), _query_of(data)
    is_form = template.startswith("/ui")
    body = b""
    if method not in {"GET", "HEAD"}:
        body = _form_of(data) if is_form else data.json_bytes(_BODIES.get(template, {"a": 1}))
    headers = {
        "host": "127.0.0.1:8080",
        "x-api-key": _KEY,
        "content-type": _TYPES[2] if is_form else _TYPES[0],
        "cookie": f"ui_csrf={_CSRF}",
        "accept": "*/*",
    }
    if data.one_in(16):
        headers["content-type"] = data.pick(_TYPES)
    for _ in range(data.byte() % 3 if data.one_in(4) else 0):
        name, value = data.pick(_HEADERS)
        headers[name] = value if not data.one_in(4) else data.text()
    if data.one_in(16):
        del headers["x-api-key"]
    knows_key = headers.get("x-api-key") == _KEY
    return method, path, query, list(headers.items()), body, knows_key


def _asking(bench: Bench, *, pages: bool) -> Callable[[bytes], None]:
    world = _World(bench)
    routes = world.pages if pages else world.api
    # Those that take a body come twice.
    weighed = routes + [one for one in routes if one[0] == "POST"] * 2

    def one(content: bytes) -> None:
        data = Data(content)
        method, path, query, headers, body, knows_key = _request(data, *data.pick(weighed))
        answer = world.ask(method, path, query, headers, body)
        world.check(answer, knows_key=knows_key, path=path)
        bench.reached[f"{answer.status // 100}xx"] += 1

    return one


def _api(bench: Bench) -> Callable[[bytes], None]:
    return _asking(bench, pages=False)


def _pages(bench: Bench) -> Callable[[bytes], None]:
    return _asking(bench, pages=True)


TARGETS = (
    Target(
        "api",
        "requests to every route of the service's API: no internal error, the security headers,"
        " no secrets, and nothing without a key",
        _api,
        0.2,
        time_share=2.0,
    ),
    Target(
        "pages",
        "requests to every page and form: as for the API, and no script, event handler or link"
        " from untrusted text",
        _pages,
        0.05,
        time_share=2.0,
    ),
)
