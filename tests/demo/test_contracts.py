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


def test_contracts_are_compiled_once_and_anew_where_source_or_cache_changed(
    sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = compile_contracts(tmp_path / "cache")
    assert list(first["Tiny"].selectors) == ["f(uint256)"]
    with monkeypatch.context() as patch:
        without_node(patch, tmp_path)
        assert compile_contracts(tmp_path / "cache") == first
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_text('{"Tiny": {"na')
    assert compile_contracts(tmp_path / "cache") == first
    (sources / "Tiny.sol").write_text("contract Tiny { function g() external {} }")
    assert list(compile_contracts(tmp_path / "cache")["Tiny"].selectors) == ["g()"]


@pytest.mark.usefixtures("sources")
def test_a_missing_node_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_node(monkeypatch, tmp_path)
    with pytest.raises(CompileError, match="Node is not on PATH"):
        compile_contracts(tmp_path / "cache")


def test_a_source_that_does_not_compile_is_shown(sources: Path, tmp_path: Path) -> None:
    (sources / "Broken.sol").write_text("contract Broken { uint x = true; }")
    with pytest.raises(CompileError, match=r"Broken\.sol:1:"):
        compile_contracts(tmp_path / "cache")
