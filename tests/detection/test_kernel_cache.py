import importlib.util
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core.caching import InTreeCacheLocator

LOCATOR = "src.detection.kernel_cache.ShippedKernels"
SOURCE = """
import numba

@numba.njit(numba.int64(numba.int64), cache=True)
def kernel(x):
    return x + {step}
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", LOCATOR)
    path = tmp_path / "shipped.py"
    path.write_text(SOURCE.format(step=1))
    return path


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the folder beside a source unwritable, also for root, whom no permission stops."""

    def make(source: Path) -> None:
        original = InTreeCacheLocator.ensure_cache_path

        def ensure_cache_path(self: InTreeCacheLocator) -> None:
            if Path(self.get_cache_path()).is_relative_to(source.parent):
                raise PermissionError(30, "Read-only file system")
            original(self)

        monkeypatch.setattr(InTreeCacheLocator, "ensure_cache_path", ensure_cache_path)

    return make


def load(source: Path) -> Any:
    spec = importlib.util.spec_from_file_location("shipped", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kernel


def kernel_files(source: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in source.parent.glob("__pycache__/*.nb?")}


def test_writable_folder_holds_the_kernels_beside_the_source(source: Path) -> None:
    assert load(source)(1) == 2
    assert len(kernel_files(source)) == 2


def test_a_change_beside_the_source_makes_its_kernels_stale(source: Path) -> None:
    helper = source.with_name("helper.py")
    helper.write_text("STEP = 1\n")
    load(source)
    assert sum(load(source).stats.cache_hits.values()) == 1
    helper.write_text("STEP = 2\n")
    assert not load(source).stats.cache_hits


def test_read_only_folder_serves_the_kernels_that_it_holds(source: Path, read_only: Any) -> None:
    load(source)
    read_only(source)
    kernel = load(source)
    assert kernel(1) == 2
    assert sum(kernel.stats.cache_hits.values()) == 1
    assert not kernel.stats.cache_misses


def test_read_only_folder_without_kernels_lets_them_be_compiled(
    source: Path, read_only: Any
) -> None:
    read_only(source)
    kernel = load(source)
    assert kernel(1) == 2
    assert sum(kernel.stats.cache_misses.values()) == 1
    assert kernel_files(source) == {}


def test_stale_kernel_in_a_read_only_folder_is_compiled_anew_and_left_alone(
    source: Path, read_only: Any
) -> None:
    load(source)
    shipped = kernel_files(source)
    read_only(source)
    source.write_text(SOURCE.format(step=20))
    assert load(source)(1) == 21
    assert kernel_files(source) == shipped
