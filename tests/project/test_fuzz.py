"""The fuzzer itself: its targets run, and what they look for is found."""

import random
from pathlib import Path

import pytest
from hypothesis import settings

from fuzz.target import Bench, Violation
from fuzz.targets import TARGETS
from fuzz.targets.service import _check_finite, _Page
from fuzz.worker import compiled_modules

# Those that change nothing of the process that others use, and start at once.
QUICK = ("policy", "manifest", "signature", "addresses", "recording", "supervised", "etherscan",
         "registry", "settings")  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_a_target_runs(name: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one = TARGETS[name].prepare(bench)
    source = random.Random(name)
    for _ in range(40):
        one(source.randbytes(source.randrange(200)))
    one(b"")
    assert bench.reached


def test_what_numba_compiles_is_not_instrumented() -> None:
    assert {"src.detection.trees.trees", "src.detection.trees.tree_shap"} <= set(compiled_modules())
    assert "src.agent" not in compiled_modules()


@pytest.mark.parametrize(
    "page",
    [
        "<p onclick=x>",
        "<script>alert(1)</script>",
        '<script src="//evil.example/x.js"></script>',
        '<a href="javascript:x">',
        "<iframe></iframe>",
        '<img src="x">',
        '<p style="x">',
    ],
)
def test_markup_of_strangers_is_noticed(page: str) -> None:
    with pytest.raises(Violation):
        _Page(f"<html><body>{page}</body></html>")


def test_a_page_of_ours_is_fine() -> None:
    _Page('<script src="/ui/static/job.js?1"></script><a href="/ui/">x</a>&lt;script&gt;')


@pytest.mark.parametrize("value", [float("inf"), [1, {"a": float("nan")}]])
def test_a_number_that_is_not_finite_is_noticed(value: object) -> None:
    with pytest.raises(Violation):
        _check_finite(value)


def test_properties_are_tried_on_the_same_examples_here_and_on_others_by_the_fuzzer() -> None:
    assert settings.get_profile("project").derandomize
    assert not settings.get_profile("explore").derandomize
