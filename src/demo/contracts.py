"""The demo's Solidity contracts: compilation, call data, and a cache of compiled code.

`solc` is the npm package of the project's lock file, a WebAssembly build that needs a second or two
to start, so its output is kept under `.cache/` and used for as long as the sources, the settings
and the lock file's compiler stay the same.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any, Final

from eth_abi.abi import decode, encode

from src.files import write_file

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = Path(__file__).resolve().parent / "contracts"
CACHE: Final = ROOT / ".cache" / "demo-contracts"

_COMPILER: Final = Path(__file__).resolve().parent / "compile.mjs"
_COMPILER_SECONDS: Final = 600
_SETTINGS: Final = {
    "optimizer": {"enabled": True, "runs": 200},
    "evmVersion": "shanghai",
    # Without a metadata hash in the code, the same sources give the same addresses and hashes.
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {
        "*": {"*": ["evm.bytecode.object", "evm.deployedBytecode.object", "evm.methodIdentifiers"]}
    },
}


class CompileError(RuntimeError):
    """The contracts could not be compiled; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Contract:
    """A compiled contract."""

    name: str  # as in the source
    creation_code: str  # `0x` hex that deploys it when its encoded constructor arguments follow
    runtime_code: str  # `0x` hex of the deployed code, with immutables still zero
    # Four-byte selectors as hex by signature, such as `transfer(address,uint256)`.
    selectors: Mapping[str, str]

    def creation(self, types: tuple[str, ...] = (), *arguments: Any) -> str:
        """The data of a transaction that deploys the contract."""
        return self.creation_code + encode(types, arguments).hex()

    def call(self, signature: str, *arguments: Any) -> str:
        """The data of a transaction or call of the function with this signature.

        Raises:
            KeyError: the contract has no such function.
        """
        return "0x" + self.selectors[signature] + encode(_types(signature), arguments).hex()


def decode_result(types: tuple[str, ...], data: str) -> tuple[Any, ...]:
    """Decode what an `eth_call` returned (`0x` hex)."""
    return decode(types, bytes.fromhex(data[2:]))


def compile_contracts(cache: Path = CACHE) -> dict[str, Contract]:
    """Compile every contract of the demo, or load it from the cache.

    Returns:
        The contracts by name.

    Raises:
        CompileError: Node or `solc` is missing, or the sources do not compile.
    """
    sources = {path.name: path.read_text("utf-8") for path in sorted(SOURCES.glob("*.sol"))}
    request = json.dumps(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": _SETTINGS,
        },
        sort_keys=True,
    )
    cached = cache / f"{_digest(request, _compiler_version())}.json"
    output = _read(cached)
    if output is None:
        output = _parse(_run_compiler(request))
        _write(cached, output)
    return {name: Contract(name=name, **fields) for name, fields in output.items()}


def _types(signature: str) -> tuple[str, ...]:
    inside = signature[signature.index("(") + 1 : -1]
    return tuple(inside.split(",")) if inside else ()


def _digest(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _compiler_version() -> str:
    package = ROOT / "node_modules" / "solc" / "package.json"
    try:
        return str(json.loads(package.read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError) as error:
        raise CompileError(
            "The Solidity compiler (npm solc) is missing: run `npm run setup`."
        ) from error


def _run_compiler(request: str) -> str:
    node = which("node")
    if node is None:
        raise CompileError("Node is not on PATH: install Node 20 or newer.")
    try:
        result = subprocess.run(
            [node, str(_COMPILER)],
            input=request,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_COMPILER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"The Solidity compiler took over {_COMPILER_SECONDS} s.") from error
    if result.returncode != 0:
        raise CompileError(f"The Solidity compiler failed; try `npm ci`.\n{result.stderr.strip()}")
    return result.stdout


def _parse(text: str) -> dict[str, dict[str, Any]]:
    output = json.loads(text)
    errors = [e["formattedMessage"] for e in output.get("errors", ()) if e["severity"] == "error"]
    if errors:
        raise CompileError("The contracts do not compile:\n" + "\n".join(errors))
    return {
        name: {
            "creation_code": "0x" + compiled["evm"]["bytecode"]["object"],
            "runtime_code": "0x" + compiled["evm"]["deployedBytecode"]["object"],
            "selectors": compiled["evm"]["methodIdentifiers"],
        }
        for file in output["contracts"].values()
        for name, compiled in file.items()
    }


def _read(path: Path) -> dict[str, dict[str, Any]] | None:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write(path: Path, output: dict[str, dict[str, Any]]) -> None:
    """Cache the output; errors are ignored."""
    try:
        write_file(path, json.dumps(output).encode())
    except OSError:
        return
