"""docs/adding-a-chain.md holds: its steps, taken in a copy of the project, add a chain."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from src.settings import PROJECT_ROOT, SETTINGS

PAGE = PROJECT_ROOT / "docs" / "adding-a-chain.md"
COPIED = ("src", "policy.yaml", "isolation_forest.manifest.json")
SAY = """
from src.chain.networks import described, network
from src.chain.well_known import load_well_known_tokens
from src.decision.__main__ import main
tokens = load_well_known_tokens(146)
print(described(146), network(146).explorer)
print(tokens.is_impersonated("USDC.e", "0x" + "77" * 20))
raise SystemExit(main(["--check", "policy.yaml", "--chain", "sonic"]))
"""


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_steps_add_a_chain(tmp_path: Path) -> None:
    for name in COPIED:
        source = PROJECT_ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "demo_blocks")
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    added = json.loads(block("json"))
    for part, name in (("networks", "networks.json"), ("tokens", "well_known_tokens.json")):
        path = tmp_path / "src" / "chain" / name
        content = json.loads(path.read_text())
        content[part] |= added[part]
        path.write_text(json.dumps(content))
    with (tmp_path / "policy.yaml").open("a") as policy:
        policy.write(block("yaml"))
    unset = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    child = subprocess.run(
        [sys.executable, "-c", SAY],
        cwd=tmp_path, env=unset | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    said = child.stdout
    assert said.startswith("Sonic (chain 146) https://sonicscan.org\nTrue\n")
    assert "On Sonic (chain 146):" in said
    assert "on     impersonated_token" in said
    assert "-      fresh_account_large_value: no effect" in said
    assert "swap_routers_sonic: 1 addresses" in said
