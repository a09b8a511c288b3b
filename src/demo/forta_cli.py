"""Runs the real `forta-agent` CLI on the project's bot and reads the findings that it prints.

The user's environment is isolated from it: `~/.forta` (configuration and a block cache that does
not distinguish chains), API keys, proxies and Forta's production variables.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
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

# Removed, because they change the behaviour of the CLI or the SDK.
_FORTA_VARIABLES: Final = re.compile(r"NODE_ENV|AGENT_GRPC_PORT|JSON_RPC_(HOST|PORT)|FORTA_.*")
_SOURCE_VARIABLES: Final = re.compile(r"(ETHERSCAN|ETHPLORER)_(URL|API_KEY)")
_NOBODY: Final = "http://127.0.0.1:9"  # the discard port: connections are refused immediately

# The CLI's heading, followed by the findings as multi-line JSON objects, separated by commas.
_FINDINGS_LINE: Final = re.compile(r"^(\d+) findings for transaction (0x[0-9a-f]{64}) ?", re.M)


class CliError(RuntimeError):
    """The CLI failed, timed out, or printed unreadable output."""


@dataclass(frozen=True, slots=True)
class CliResult:
    """The result of a run of the CLI."""

    # The findings of each transaction, as printed by the CLI (`severity` and `type` by name).
    findings: dict[str, list[dict[str, Any]]]
    output: str  # everything printed, including the bot's log


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
        home: a folder for the caches and temporary files of the CLI and the bot. It is removed if
            this process is killed meanwhile.
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
        # The environment cannot hide keys in secrets.json, but it can redirect their URLs.
        environment |= {"ETHERSCAN_URL": _NOBODY, "ETHPLORER_URL": _NOBODY}
    environment |= settings or {}
    code, output = _run(command, project, environment, home)
    if code != 0:
        raise CliError(f"forta-agent ended with exit code {code}:\n{output[-_OUTPUT_TAIL:]}")
    return CliResult(parse_findings(output), output)


def cli_environment(json_rpc_url: str, home: Path) -> dict[str, str]:
    """The environment of the CLI and the bot: this one, without variables for other nodes and keys.

    The first `python3` on its PATH, with which the CLI starts the bot, is the running interpreter.
    `MODEL_PATH` and `ANOMALY_THRESHOLD` are passed on.
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
    """Parse the findings in the CLI's output, possibly mixed with log lines.

    Raises:
        CliError: the output has fewer findings than the CLI's heading states.
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
    """Run a command in its own session; returns its exit code and output.

    The output goes to a file, because Node writes to pipes asynchronously and the CLI exits before
    everything is written.
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
                    f"forta-agent did not finish within {_PATIENCE_SECONDS:.0f} s."
                ) from error
        output.seek(0)
        return code, output.read().decode("utf-8", "replace")
