"""docs/adding-a-feature.md holds: its steps, taken in a copy of the code, add a feature."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.settings import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "adding-a-feature.md"
FEATURES = Path("src", "detection", "features")
REFERENCE = Path("tests", "support", "reference_features.py")

# Three tokens that move, one of them back again, and a fourth that is minted.
COMPARE = """
from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_row
from src.detection.features.kernel import N_FEATURES
from tests.support.reference_features import reference_features

moves = [("A", "x", "y", 5), ("B", "x", "y", 7), ("A", "y", "x", 5), ("C", "y", "z", 1)]
moves.append(("D", ZERO_ADDRESS, "x", 3))
for transfers in (moves, moves[:1], moves[4:], []):
    events = [Transfer(*move, log_index=place) for place, move in enumerate(transfers)]
    row = feature_row(events, "x", TokenProfile.from_amounts({}))
    computed = dict(zip(FEATURE_NAMES, row.tolist(), strict=True))
    defined = reference_features(transfers, "x", ZERO_ADDRESS, {})
    assert list(computed) == list(defined) and len(computed) == N_FEATURES
    for name, value in defined.items():
        assert abs(computed[name] - value) < 1e-12, (name, computed[name], value)
    print(computed["distinct_tokens"])
"""


def insert(path: Path, before: str, lines: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path} has no single place before {before!r}"
    path.write_text(text.replace(before, lines + before))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the code after the page's three steps."""
    for folder in (Path("src", "detection"), Path("src", "chain")):
        shutil.copytree(PROJECT_ROOT / folder, tmp_path / folder)
    for file in (Path("src", "__init__.py"), Path("src", "files.py"), REFERENCE):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT_ROOT / file, tmp_path / file)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    meaning, column, filled, defined = blocks
    insert(tmp_path / FEATURES / "definitions.py", '}\n"""What each feature says', meaning)
    kernel = tmp_path / FEATURES / "kernel.py"
    end = ") = range(N_FEATURES)\n"
    insert(kernel, end, column.removesuffix(end))
    insert(kernel, "    out[_OUTSIDER_LOSS] =", filled)
    before = re.search(r"^N_FEATURES = (\d+)$", kernel.read_text(), re.MULTILINE)
    assert before is not None
    raised = f"N_FEATURES = {int(before[1]) + 1}"
    kernel.write_text(kernel.read_text().replace(before[0], raised))
    insert(tmp_path / REFERENCE, "    return values", defined)
    return tmp_path


def test_the_three_steps_add_a_feature_to_the_kernel_and_to_its_reference(project: Path) -> None:
    """The kernel runs as plain Python: compiling it anew would take longer than all the rest."""
    checked = subprocess.run(
        # numpy warns where the kernel's hash of keys wraps around, as it is meant to.
        [sys.executable, "-W", "ignore::RuntimeWarning", "-c", COMPARE],
        cwd=project,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert [float(line) for line in checked.stdout.split()] == [math.log2(3), 0, 0, 0]
