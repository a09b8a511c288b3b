"""The real `forta-agent run --prod` as a test fixture: gRPC in, findings out, as on a scan node."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_tools import protoc

from src.demo.processes import free_port, running
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
_SERVER = ROOT / "node_modules/forta-agent/dist/cli/commands/run/server"
_IMAGE_ENVIRONMENT = {
    "NODE_ENV": "production",
    "NODE_OPTIONS": f'--require="{ROOT}/scripts/end_with_python.cjs"',
    "MALLOC_ARENA_MAX": "2",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Bridge:
    """A client of a running bot."""

    def __init__(self, channel: grpc.Channel, messages: Any, services: Any, process: Any) -> None:
        self._messages = messages
        self._stub = services.AgentStub(channel)
        self.process = process

    def initialize(self) -> Any:
        return self._stub.Initialize(self._messages.InitializeRequest(), timeout=PATIENCE)

    def health_check(self) -> Any:
        return self._stub.HealthCheck(self._messages.HealthCheckRequest(), timeout=PATIENCE)

    def evaluate(self, event: Mapping[str, Any]) -> Any:
        request = self._messages.EvaluateTxRequest(
            requestId="1", event=self._messages.TransactionEvent(**event)
        )
        return self._stub.EvaluateTx(request, timeout=PATIENCE)


def transaction_event(
    *, tx_hash: str, sender: str, logs: list[dict[str, Any]], timestamp: int = 1_700_000_000
) -> dict[str, Any]:
    """An event as the scan node sends it: all numbers are strings."""
    return {
        "transaction": {"hash": tx_hash, "from": sender, "to": "0x" + "5" * 40, "nonce": "0x1"},
        "block": {
            "blockHash": "0x" + "b" * 64,
            "blockNumber": "0x1100000",
            "blockTimestamp": hex(timestamp),
        },
        "network": {"chainId": "0x1"},
        "logs": [
            {"logIndex": hex(i), "blockNumber": "0x1100000", "transactionIndex": "0x0", **log}
            for i, log in enumerate(logs)
        ],
    }


@contextmanager
def production_bot(
    tmp_path: Path, settings: Mapping[str, str], project: Path = ROOT
) -> Iterator[Bridge]:
    """Run the bot as a scan node does and yield a client of it. Ends the process afterwards."""
    with (
        production_process(tmp_path, settings, project) as (process, port),
        connect(port, tmp_path, process) as bridge,
    ):
        yield bridge


@contextmanager
def production_process(
    tmp_path: Path, settings: Mapping[str, str], project: Path = ROOT
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The same before it answers: the process and its port. It logs to `tmp_path/bot.log`."""
    port = free_port()
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        **_IMAGE_ENVIRONMENT,
        "AGENT_GRPC_PORT": str(port),
        "FORTA_CHAIN_ID": "1",  # a scan node sets it
        "no_proxy": "127.0.0.1,localhost",
        **settings,
    }
    command = [ROOT / "node_modules/.bin/forta-agent", "run", "--prod"]
    with (
        (tmp_path / "bot.log").open("w") as log,
        running(
            command, patience=0, cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        yield process, port


@contextmanager
def connect(
    port: int, folder: Path, process: Any = None, timeout: float = PATIENCE
) -> Iterator[Bridge]:
    """Yield a client of the bot that listens on `port`, as soon as it does; `folder` is scratch."""
    messages, services = _protocol(folder)
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        ready = grpc.channel_ready_future(channel)
        if process is not None:
            wait_until(ready.done, process)
        ready.result(timeout=timeout)
        yield Bridge(channel, messages, services, process)


def _protocol(folder: Path) -> tuple[Any, Any]:
    """The scan node's protocol, compiled from the file that the CLI ships."""
    generated = folder / "protocol"
    if not generated.exists():
        generated.mkdir()
        include = Path(protoc.__file__).parent / "_proto"
        status = protoc.main(
            ["protoc", f"-I{_SERVER}", f"-I{include}", f"--python_out={generated}",
             f"--grpc_python_out={generated}", "agent.proto", "alert.proto"]
        )  # fmt: skip
        assert status == 0
    for name in ("agent_pb2", "agent_pb2_grpc", "alert_pb2", "alert_pb2_grpc"):
        sys.modules.pop(name, None)
    sys.path.insert(0, str(generated))
    try:
        import agent_pb2
        import agent_pb2_grpc
    finally:
        sys.path.remove(str(generated))
    return agent_pb2, agent_pb2_grpc
