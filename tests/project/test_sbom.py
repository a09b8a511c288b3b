"""The bill of materials names what the locks pin, with the hashes that they are installed by."""

import json
import re
from pathlib import Path

from scripts.sbom import BILLS, main, node_components, python_components

ROOT = Path(__file__).resolve().parents[2]
LOCK = """\
aiohttp==3.14.5 ; python_version < "3.13" \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via web3
zope-interface==1.0 \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)


def test_python_packages_carry_their_versions_and_hashes():
    first, second = python_components(LOCK)
    assert (first.name, first.version, len(first.hashes)) == ("aiohttp", "3.14.5", 2)
    assert str(second.purl) == "pkg:pypi/zope-interface@1.0"


def test_node_packages_of_development_are_left_out():
    packages = {
        "": {"version": "0"},
        "node_modules/@a/b": {"version": "1.0.0", "integrity": "sha512-AAAA"},
        "node_modules/c": {"version": "2.0.0", "dev": True},
    }
    (component,) = node_components(json.dumps({"packages": packages}))
    assert str(component.purl) == "pkg:npm/%40a/b@1.0.0"


def test_the_bills_of_the_real_locks_are_valid_and_complete(tmp_path: Path):
    assert main(["--out", str(tmp_path)]) == 0
    for name, (lock, has_node) in BILLS.items():
        components = json.loads((tmp_path / name).read_text())["components"]
        purls = [component["purl"] for component in components]
        lines = (ROOT / lock).read_text().splitlines()
        pinned = [line.split()[0] for line in lines if "==" in line and line[0].isalnum()]
        assert len([purl for purl in purls if purl.startswith("pkg:pypi/")]) == len(pinned)
        assert any(purl.startswith("pkg:npm/forta-agent@") for purl in purls) == has_node
        assert all(component.get("hashes") for component in components)


def test_each_image_has_its_bill():
    """The locks that the Dockerfile installs are the ones that the bills name."""
    installed = set(re.findall(r"requirements(?:/[a-z]+)?\.txt", (ROOT / "Dockerfile").read_text()))
    assert installed == {lock for lock, _ in BILLS.values()}
