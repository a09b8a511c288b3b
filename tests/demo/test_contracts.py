"""Contracts are compiled once and anew where their source changed."""

from pathlib import Path

import pytest

from src.demo import contracts as contracts_module
from src.demo.contracts import CompileError, compile_contracts


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "Tiny.sol").write_text("contract Tiny { function f(uint x) external {} }")
    monkeypatch.setattr(contracts_module, "SOURCES", folder)
    return folder


def without_node(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setenv("PATH", str(empty))


@pytest.mark.usefixtures("sources")
def test_a_second_compilation_comes_from_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = compile_contracts(tmp_path / "cache")
    without_node(monkeypatch, tmp_path)
    assert compile_contracts(tmp_path / "cache") == first


@pytest.mark.usefixtures("sources")
def test_a_broken_cache_file_is_compiled_anew(tmp_path: Path) -> None:
    first = compile_contracts(tmp_path / "cache")
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_text('{"Tiny": {"na')
    assert compile_contracts(tmp_path / "cache") == first


def test_a_changed_source_is_compiled_anew(sources: Path, tmp_path: Path) -> None:
    before = compile_contracts(tmp_path / "cache")
    (sources / "Tiny.sol").write_text("contract Tiny { function g() external {} }")
    after = compile_contracts(tmp_path / "cache")
    assert list(before["Tiny"].selectors) == ["f(uint256)"]
    assert list(after["Tiny"].selectors) == ["g()"]


@pytest.mark.usefixtures("sources")
def test_a_missing_node_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_node(monkeypatch, tmp_path)
    with pytest.raises(CompileError, match="Node is not on PATH"):
        compile_contracts(tmp_path / "cache")


def test_a_source_that_does_not_compile_is_shown(sources: Path, tmp_path: Path) -> None:
    (sources / "Broken.sol").write_text("contract Broken { uint x = true; }")
    with pytest.raises(CompileError, match=r"Broken\.sol:1:"):
        compile_contracts(tmp_path / "cache")
