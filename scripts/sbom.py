"""A software bill of materials in CycloneDX 1.6 from the locks: `npm run sbom`.

One for the bot's image (Python and Node packages), one for the service's (Python): exact versions
with the hashes that they are installed by. The operating system's packages are the base images'.
"""

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL

from src import cli
from src.files import write_file

_ROOT = Path(__file__).resolve().parent.parent
# By the bill's file: the Python lock of the image, and whether Node is in it.
BILLS = {
    "sbom.json": ("requirements.txt", True),
    "sbom-service.json": ("requirements/service.txt", False),
}
_EPILOG = """\
example:
  npm run sbom -- --out build

exit codes: 0 written, 1 failed, 2 wrong usage.
"""
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)((?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
_SHA256 = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def python_components(lock: str) -> Iterator[Component]:
    """The packages of a requirements lock."""
    for name, version, options in _PINNED.findall(lock):
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            purl=PackageURL("pypi", None, name.lower().replace("_", "-"), version),
            bom_ref=f"pypi:{name}@{version}",
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=h) for h in _SHA256.findall(options)
            ],
        )


def node_components(lock: str) -> Iterator[Component]:
    """The packages of a package-lock that production installs."""
    for path, package in json.loads(lock)["packages"].items():
        if not path or package.get("dev") or package.get("optional"):
            continue
        full_name = path.rsplit("node_modules/", 1)[1]
        scope, _, name = full_name.rpartition("/")
        algorithm, _, digest = package.get("integrity", "").partition("-")
        hashes = []
        if algorithm == "sha512":
            content = base64.b64decode(digest).hex()
            hashes = [HashType(alg=HashAlgorithm.SHA_512, content=content)]
        yield Component(
            type=ComponentType.LIBRARY,
            group=scope or None,
            name=name,
            version=package["version"],
            purl=PackageURL("npm", scope or None, name, package["version"]),
            bom_ref=f"npm:{path}",
            hashes=hashes,
        )


def bill(python_lock: str, node_lock: str | None, project: dict[str, str]) -> str:
    """The bill as JSON, checked against the schema; `node_lock` is None for an image without Node.

    Raises:
        ValueError: it is not valid CycloneDX.
    """
    bom = Bom()
    root = Component(
        type=ComponentType.APPLICATION, name=project["name"], version=project["version"]
    )
    bom.components.update(python_components(python_lock))
    if node_lock is not None:
        bom.components.update(node_components(node_lock))
    bom.metadata.component = root
    bom.register_dependency(root, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    # It compiles grammars for seconds, which nobody who imports this module should wait for.
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise ValueError(f"the bill is not valid CycloneDX: {problem}")
    return text


@cli.command("sbom")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = cli.parser("sbom", __doc__, _EPILOG)
    parser.add_argument(
        "--out", type=cli.output_folder, default=str(_ROOT / "build"), metavar="DIR", help="(build)"
    )
    options = parser.parse_args(arguments)
    project = json.loads((_ROOT / "package.json").read_text())
    for name, (python_lock, has_node) in BILLS.items():
        node_lock = (_ROOT / "package-lock.json").read_text() if has_node else None
        text = bill((_ROOT / python_lock).read_text(), node_lock, project)
        write_file(options.out / name, (text + "\n").encode())
        sys.stdout.write(f"{options.out / name}: {len(json.loads(text)['components'])} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
