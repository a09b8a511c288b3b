"""A policy is read exactly or refused with the line and the reason."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.networks import networks
from src.decision import __main__ as command
from src.detection.detectors import DETECTORS
from src.detection.detectors.base import Equipment
from src.detection.policy import Condition, Mode, PolicyError, parse_policy
from src.detection.suite import DetectorSuite

REPOSITORY = Path(__file__).resolve().parents[2]
ADDRESS = "0x" + "1e" * 20
LEAST = "version: 1\ndetectors:\n  isolation_forest: on\n"


def refused(text):
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "policy.yaml")
    return str(caught.value)


def with_scope(**changes):
    entries = {
        "reason": "known",
        "detectors": "[isolation_forest]",
        "addresses": f"[{ADDRESS}]",
        **changes,
    }
    lines = "".join(f"    {key}: {value}\n" for key, value in entries.items())
    return f"{LEAST}scopes:\n  friends:\n{lines}"


def test_the_shipped_policy_is_valid_and_names_every_detector():
    policy = parse_policy((REPOSITORY / "policy.yaml").read_text())
    assert policy.detectors.keys() == DETECTORS.keys()
    running = DetectorSuite.from_policy(policy, 1, Equipment()).detectors
    assert ("isolation_forest", Mode.ON) in running
    assert ("supervised", Mode.ON) in running


def test_the_documentation_describes_every_detector_and_parameter():
    text = (REPOSITORY / "docs" / "policy.md").read_text()
    for name, detector in DETECTORS.items():
        assert f"`{name}`" in text
        assert all(f"`{parameter}`" in text for parameter in detector.PARAMETERS)


def test_every_alert_is_documented():
    text = (REPOSITORY / "docs" / "alerts.md").read_text()
    for detector in DETECTORS.values():
        assert detector.ALERT is None or f"`{detector.ALERT.id}`" in text


def test_a_detector_has_its_defaults():
    entry = parse_policy(LEAST).detectors["isolation_forest"]
    assert entry.mode is Mode.ON
    assert entry.parameters == {"review_at": None, "block_at": 0.75, "review_unscored": 1}


@pytest.mark.parametrize("mode", list(Mode))
def test_modes_are_words_although_yaml_takes_them_for_booleans(mode):
    text = f"version: 1\ndetectors: {{drained_account: {mode}}}"
    assert parse_policy(text).detectors["drained_account"].mode is mode


def test_a_chain_overrides_what_it_names_and_keeps_the_rest():
    policy = parse_policy(
        LEAST.replace(": on", ": {mode: on, block_at: 0.9}")
        + "chains:\n  56:\n    detectors:\n      isolation_forest: {mode: shadow, review_at: 0.6}\n"
    )
    assert policy.for_chain(1)["isolation_forest"].mode is Mode.ON
    on_bsc = policy.for_chain(56)["isolation_forest"]
    parameters = {"review_at": 0.6, "block_at": 0.9, "review_unscored": 1}
    assert (on_bsc.mode, on_bsc.parameters) == (Mode.SHADOW, parameters)


def test_a_scope_is_read():
    (scope,) = parse_policy(with_scope(match="to", chains="[1, 56]")).scopes
    assert (scope.name, scope.reason, scope.chains) == ("friends", "known", {1, 56})
    assert scope.addresses == {ADDRESS}


def test_a_scope_may_have_a_condition():
    (scope,) = parse_policy(with_scope(only_if="sender_pays")).scopes
    assert scope.only_if is Condition.SENDER_PAYS
    (scope,) = parse_policy(with_scope()).scopes
    assert scope.only_if is None


def test_a_scope_of_another_chain_does_not_apply():
    policy = parse_policy(with_scope(chains="[56]"))
    assert DetectorSuite.from_policy(policy, 1, Equipment())._scoped is False
    assert DetectorSuite.from_policy(policy, 56, Equipment())._scoped is True


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "empty"),
        ("[]", 1, "must be a mapping"),
        ("version: 2\ndetectors: {isolation_forest: on}", 1, "version must be 1"),
        ("detectors: {isolation_forest: on}", 1, "'version' is missing"),
        ("version: 1", 1, "'detectors' is missing"),
        ("version: 1\ndetectors: {}", 2, "at least one"),
        (LEAST + "colour: blue\n", 4, "unknown key 'colour'"),
        (LEAST + "  isolation_forrest: on\n", 4, "unknown detector 'isolation_forrest'; known:"),
        (LEAST + "  isolation_forest: off\n", 4, "in detectors (first defined on line 3)"),
        ("version: 1\nversion: 1\n", 2, "duplicate key 'version' in the policy"),
        (LEAST.replace(": on", ": maybe"), 3, "is 'maybe'; allowed: on, shadow, off"),
        (LEAST.replace(": on", ": {block_at: 0.7}"), 3, "lacks mode"),
        (LEAST.replace(": on", ":\n    mode: on\n    block_at: 1.5"), 5, "from 0 to 1"),
        (LEAST.replace(": on", ":\n    mode: on\n    block_at: -0.1"), 5, "from 0 to 1"),
        (LEAST.replace(": on", ":\n    mode: on\n    block_at: .nan"), 5, "from 0 to 1"),
        (LEAST.replace(": on", ":\n    mode: on\n    block_at: high"), 5, "is 'high'"),
        (LEAST.replace(": on", ":\n    mode: on\n    blokc_at: 0.7"), 5, "unknown key 'blokc_at'"),
        (
            LEAST.replace(": on", ": {mode: on, review_at: 0.9, block_at: 0.8}"),
            3,
            "below review_at",
        ),
        ("version: 1\ndetectors:\n  drained_account: {mode: on, min_tokens: 2.5}", 3, "a whole"),
        (LEAST + "chains: {zero: {detectors: {}}}", 4, "not a chain id"),
        (LEAST + "chains: {0: {detectors: {}}}", 4, "not a chain id"),
        (with_scope(reason="''"), 6, "must not be empty"),
        (with_scope(detectors="[nobody]"), 7, "unknown detector"),
        (with_scope(detectors="[]"), 7, "list of at least one"),
        (with_scope(addresses="[0x12]"), 8, "not an address"),
        (with_scope(addresses=f"[{ADDRESS}, {ADDRESS.upper().replace('X', 'x')}]"), 8, "twice"),
        (with_scope(match="from"), 9, "allowed: sender, to, either"),
        (with_scope(only_if="always"), 9, "allowed: sender_pays"),
        ("version: 1\ndetectors: [", 2, "not YAML"),
        ("a: &a [1]\nb: *a", 2, "aliases"),
        ("\x00", None, "not YAML"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_a_mistake_is_refused_with_its_line(text, line, words):
    message = refused(text)
    assert words in message
    assert message.startswith("policy.yaml")
    if line is not None:
        assert message.startswith(f"policy.yaml, line {line}: ")


@given(
    st.text(max_size=60) | st.text(alphabet="version: 1\ndetectors[]{}&*!-#'\"|>%@`,", max_size=60)
)
def test_any_text_is_read_or_refused(text):
    with suppress(PolicyError):
        parse_policy(text)


def test_the_command_checks_a_policy(tmp_path, capsys):
    assert command.main(["--check", str(REPOSITORY / "policy.yaml")]) == 0
    assert "isolation_forest" in capsys.readouterr().out
    broken = tmp_path / "broken.yaml"
    broken.write_text(LEAST.replace(": on", ": perhaps"))
    assert command.main(["--check", str(broken)]) == 1
    assert "broken.yaml, line 3" in capsys.readouterr().err
    assert command.main(["--check", str(tmp_path / "absent.yaml")]) == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("chain", "title", "without_effect"),
    [
        ("1", "Ethereum (chain 1)", set()),
        ("base", "Base (chain 8453)", {"fresh_account_large_value", "disproportionate_mint"}),
        (
            "424242",
            "Chain 424242 (no record)",
            {
                "impersonated_token",
                "fresh_account_large_value",
                "approval_phishing",
                "emptied_account",
                "disproportionate_mint",
            },
        ),
    ],
)
def test_the_command_says_which_detectors_have_no_effect_on_a_chain(
    chain, title, without_effect, capsys
):
    assert command.main(["--check", str(REPOSITORY / "policy.yaml"), "--chain", chain]) == 0
    said = capsys.readouterr().out
    assert f"On {title}:" in said
    assert {name for name in DETECTORS if f"-      {name}: no effect, " in said} == without_effect
    assert all(
        f"on     {name}" in said or f"shadow {name}" in said
        for name in DETECTORS.keys() - without_effect
    )


def test_the_shipped_scopes_are_for_known_chains_and_routers_differ_by_chain():
    policy = parse_policy((REPOSITORY / "policy.yaml").read_text())
    assert {chain for scope in policy.scopes for chain in scope.chains} <= networks().keys()
    routers = [scope for scope in policy.scopes if scope.name.startswith("swap_routers")]
    assert [scope.chains for scope in routers] == [
        frozenset({chain}) for chain in (1, 10, 56, 137, 250, 8453, 42161, 43114, 59144, 81457)
    ]
    assert len({scope.addresses for scope in routers}) == len(routers)


def test_the_command_lists_detectors(capsys):
    assert command.main(["--detectors"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in DETECTORS)


@pytest.mark.parametrize(("line", "action"), [("", "REVIEW"), ("on_unknown: BLOCK", "BLOCK")])
def test_what_is_unknown_before_it_is_mined_is_reviewed_unless_blocked(line, action):
    assert parse_policy(f"{LEAST}{line}\n").on_unknown.name == action


@pytest.mark.parametrize("action", ["ALLOW", "review", "", "[REVIEW]"])
def test_what_is_unknown_is_never_allowed(action):
    message = refused(f"{LEAST}on_unknown: {action}\n")
    assert "line 4" in message
    assert "on_unknown" in message
