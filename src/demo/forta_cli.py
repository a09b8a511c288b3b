"""Runs the real `forta-agent` CLI on the project's bot and reads the findings that it prints.

The user's own surroundings stay out of it: `~/.forta` (configuration and a block cache that does
not tell chains apart), API keys, proxies and Forta's production variables.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from src.demo.contracts import ROOT
from src.demo.processes import running

_CLI: Final = ROOT / "node_modules" / "forta-agent"
_WRAPPER: Final = ROOT / "scripts" / "forta.mjs"
_OUTPUT_TAIL: Final = 2_000
_PATIENCE_SECONDS: Final = 600.0
_LOOPBACK: Final = "127.0.0.1,localhost"

# Removed, because the CLI or the SDK behaves differently when they are there.
_FORTA_VARIABLES: Final = re.compile(r"NODE_ENV|AGENT_GRPC_PORT|JSON_RPC_(HOST|PORT)|FORTA_.*")
_SOURCE_VARIABLES: Final = re.compile(r"(ETHERSCAN|ETHPLORER)_(URL|API_KEY)")
_NOBODY: Final = "http://127.0.0.1:9"  # the discard port: refused at once

# One line of the CLI begins so; the findings follow as JSON objects over many lines, with commas.
_FINDINGS_LINE: Final = re.compile(r"^(\d+) findings for transaction (0x[0-9a-f]{64}) ?", re.M)


class CliError(RuntimeError):
    """The CLI ended with an error, too late, or printed what cannot be read."""


@dataclass(frozen=True, slots=True)
class CliResult:
    """What one run of the CLI gave.

    Attributes:
        findings: for each transaction that the bot was shown, its findings as the CLI prints them
            (`severity` and `type` by name).
        output: everything printed, the bot's log included.
        seconds: how long it took.
    """

    findings: dict[str, list[dict[str, Any]]]
    output: str
    seconds: float


def run_cli(
    *arguments: str,
    json_rpc_url: str,
    home: Path,
    project: Path = ROOT,
    settings: Mapping[str, str] | None = None,
) -> CliResult:
    """Run the CLI as the npm scripts do, in a project folder against a node.

    Args:
        arguments: such as `"tx", "0x...,0x..."` or `"range", "10..12"`.
        json_rpc_url: the node, for the CLI and for the bot.
        home: a folder of our own; the CLI's and the bot's caches and temporary files go there. It
            is removed if this process is killed meanwhile.
        project: the folder with `package.json` and `src/agent.py`.
        settings: further environment variables of the bot.

    Raises:
        CliError: see the class.
    """
    if not _CLI.exists():
        raise CliError("The forta-agent CLI is missing: run `npm ci`.")
    command = ["node", str(_WRAPPER), *arguments]
    environment = cli_environment(json_rpc_url, home)
    if (project / "secrets.json").exists():
        # Keys in there cannot be hidden by the environment, but they can be led nowhere.
        environment |= {"ETHERSCAN_URL": _NOBODY, "ETHPLORER_URL": _NOBODY}
    environment |= settings or {}
    began = time.monotonic()
    code, output = _run(command, project, environment, home)
    if code != 0:
        raise CliError(f"forta-agent ended with exit code {code}:\n{output[-_OUTPUT_TAIL:]}")
    return CliResult(parse_findings(output), output, time.monotonic() - began)


def cli_environment(json_rpc_url: str, home: Path) -> dict[str, str]:
    """The environment for the CLI and the bot beneath it: ours, without what points elsewhere.

    The first `python3` on its PATH, which the CLI starts the bot with, is the one running now.
    `MODEL_PATH` and `ANOMALY_THRESHOLD` pass through: they choose how it judges, not its node.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not (_FORTA_VARIABLES.fullmatch(name) or _SOURCE_VARIABLES.fullmatch(name))
    }
    python = str(Path(sys.executable).parent)
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return environment | {
        "PATH": os.pathsep.join([python, environment.get("PATH", os.defpath)]),
        "HOME": str(home),
        "USERPROFILE": str(home),
        "TMPDIR": str(temporary),
        "CACHE_DIR": str(home / "cache"),
        "JSON_RPC_URL": json_rpc_url,
        "NO_PROXY": _LOOPBACK,
        "no_proxy": _LOOPBACK,
    }


def parse_findings(output: str) -> dict[str, list[dict[str, Any]]]:
    """Read the findings out of what the CLI printed, log lines among it or not.

    Raises:
        CliError: fewer findings can be read than the CLI says it printed.
    """
    decoder = json.JSONDecoder()
    found: dict[str, list[dict[str, Any]]] = {}
    position = 0
    while (line := _FINDINGS_LINE.search(output, position)) is not None:
        count, transaction_hash = int(line.group(1)), line.group(2)
        position = line.end()
        findings: list[dict[str, Any]] = []
        for number in range(count):
            try:
                finding, position = decoder.raw_decode(output, position + (number > 0))
            except json.JSONDecodeError as error:
                problem = f"finding {number + 1} of {count} for {transaction_hash} is not JSON"
                raise CliError(f"The CLI's output cannot be read: {problem}") from error
            findings.append(finding)
        found[transaction_hash] = findings
    return found


def _run(
    command: list[str], folder: Path, environment: Mapping[str, str], home: Path
) -> tuple[int, str]:
    """Run a command in a session of its own; its exit code and all that it printed.

    Into a file: Node writes to a pipe in its own time, and the CLI exits before all is through.
    """
    with tempfile.TemporaryFile() as output:
        with running(
            command,
            folder=home,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                code = process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise CliError(
                    f"forta-agent was not done after {_PATIENCE_SECONDS:.0f} s."
                ) from error
        output.seek(0)
        return code, output.read().decode("utf-8", "replace")
