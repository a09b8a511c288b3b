"""The rooms of `src` and the direction of the arrows between them: docs/architecture.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"

LAYERS = (
    ("files",),
    ("chain", "detection"),
    ("downloads",),
    ("variables",),
    ("settings", "cli"),
    ("datasets", "decision", "reports"),
    ("registry", "utils", "history"),
    ("monitoring",),
    ("agent", "service", "training", "backtest", "demo"),
    ("agent_v2",),
)
"""From the ground up. A room imports from the layers below its own and from itself."""

FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}
MAX_FILES = 14
"""Files of code in one folder, besides `__init__.py`: what a reader can take in at a glance."""


def imports_of(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("src."))
        elif isinstance(node, ast.ImportFrom) and node.module == "src":
            yield from (f"src.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("src."):
            yield str(node.module)


def room_of(module: str) -> str:
    return module.split(".")[1]


def modules() -> list[Path]:
    return sorted(path for path in SRC.rglob("*.py") if path != SRC / "__init__.py")


def test_every_room_is_on_a_floor():
    assert {
        room_of(".".join(("src", *p.relative_to(SRC).with_suffix("").parts))) for p in modules()
    } == set(FLOOR)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_arrows_point_down(path):
    """A command (`__main__`) may use the frame of commands and the settings, whatever its room."""
    room = path.relative_to(SRC).parts[0].removesuffix(".py")
    floor = FLOOR["cli"] + 1 if path.name == "__main__.py" else 0
    up = [
        module
        for module in imports_of(path)
        if room_of(module) != room and FLOOR[room_of(module)] >= max(FLOOR[room], floor)
    ]
    assert not up


def test_detection_does_no_io():
    """Besides reading the files of a model: no network, no database, no clock, no environment."""
    forbidden = {
        "requests",
        "urllib",
        "http",
        "socket",
        "sqlite3",
        "sqlalchemy",
        "time",
        "datetime",
    }
    for path in (SRC / "detection").rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not names & forbidden, path
        assert "os.environ" not in path.read_text(), path


def test_a_folder_can_be_taken_in_at_a_glance():
    history = SRC / "service" / "database" / "migrations" / "versions"  # which only grows
    for folder in {path.parent for path in modules()} - {history}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MAX_FILES, folder
