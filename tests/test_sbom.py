"""The bill of materials names what the locks pin, with the hashes that they are installed by."""

import json
from pathlib import Path

from scripts.sbom import bill, node_components, python_components

ROOT = Path(__file__).parent.parent
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


def test_the_bill_of_the_real_locks_is_valid_and_complete():
    locked = (ROOT / "requirements.txt").read_text()
    text = bill(
        locked,
        (ROOT / "package-lock.json").read_text(),
        {"name": "anomalous-token-transfers", "version": "0.1.0"},
    )
    purls = [component["purl"] for component in json.loads(text)["components"]]
    pinned = [line.split()[0] for line in locked.splitlines() if "==" in line and line[0].isalnum()]
    assert len([purl for purl in purls if purl.startswith("pkg:pypi/")]) == len(pinned)
    assert any(purl.startswith("pkg:npm/forta-agent@") for purl in purls)
