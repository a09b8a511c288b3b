"""What the image promises, read from the files; `npm run image:check` builds and runs it."""

import fnmatch
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FINAL = -1


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, (name, arguments); the first list precedes every FROM."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    found: list[list[tuple[str, str]]] = [[]]
    for line in filter(None, text.splitlines()):
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, arguments.strip()))
    return found


def arguments_of(name: str, stage: list[tuple[str, str]]) -> list[str]:
    return [arguments for instruction, arguments in stage if instruction == name]


def is_in_build_context(path: str) -> bool:
    """Whether .dockerignore lets a file through: the last rule that matches it or a parent wins."""
    included = True
    parts = path.split("/")
    candidates = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = re.escape(rule.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?")
        pattern = pattern.replace(r"\*", "[^/]*")
        if any(re.fullmatch(pattern, candidate) for candidate in candidates):
            included = rule.startswith("!")
    return included


def test_base_images_are_debian_and_pinned_to_a_version() -> None:
    defaults = arguments_of("ARG", stages()[0])
    images = [default.partition("=")[2] for default in defaults]
    assert len(images) == 2  # Python and Node
    for image in images:
        assert re.search(
            r":\d+\.\d+\.\d+(-slim-bookworm|-bookworm-slim)(@sha256:[0-9a-f]{64})?$", image
        )


def test_build_has_several_stages() -> None:
    assert len(stages()) > 3


def test_final_stage_runs_no_command_that_could_leave_something_behind() -> None:
    assert arguments_of("RUN", stages()[FINAL]) == []


def test_bot_does_not_run_as_root() -> None:
    (user,) = arguments_of("USER", stages()[FINAL])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_agent_logs_are_enabled() -> None:
    labels = arguments_of("LABEL", stages()[FINAL])
    assert 'network.forta.settings.agent-logs.enable="true"' in labels


def test_node_runs_in_production_mode() -> None:
    environment = " ".join(
        value for stage in stages() for value in arguments_of("ENV", stage)
    ).split()
    assert "NODE_ENV=production" in environment


def test_cli_is_run_without_npm_or_a_shell_so_that_signals_reach_it() -> None:
    (entrypoint,) = arguments_of("ENTRYPOINT", stages()[FINAL])
    (command,) = arguments_of("CMD", stages()[FINAL])
    assert json.loads(entrypoint) == ["tini", "-g", "--"]
    assert json.loads(command) == ["forta-agent", "run", "--prod"]


def test_cli_ends_when_its_python_child_does() -> None:
    (environment,) = arguments_of("ENV", stages()[FINAL])
    guard = "scripts/end_with_python.cjs"
    assert f"NODE_OPTIONS=--require=/app/{guard}" in environment.split()
    assert f"{guard} ./scripts/" in arguments_of("COPY", stages()[FINAL])
    assert is_in_build_context(guard)


def test_python_packages_are_installed_by_their_hashes() -> None:
    installs = [
        command
        for stage in stages()
        for command in arguments_of("RUN", stage)
        if "pip install" in command
    ]
    assert installs
    for install in installs:
        assert "--require-hashes" in install
        assert "--no-deps" in install


def test_port_of_the_protocol_is_exposed() -> None:
    assert arguments_of("EXPOSE", stages()[FINAL]) == ["50051"]


@pytest.mark.parametrize(
    "path",
    [
        "isolation_forest.pkl",
        "isolation_forest.manifest.json",
        "attack_model.npz",
        "attack_model.manifest.json",
        "package.json",
        "package-lock.json",
        "requirements.txt",
        "src/agent.py",
        "src/settings.py",
        "src/chain/networks.json",
        "src/chain/well_known_tokens.json",
        "src/detection/kernel_cache.py",
        "src/utils/findings.py",
        "src/service/web/templates/base.html",
        "src/service/demo_blocks/blocks-000000000000-000000000385/logs.parquet",
    ],
)
def test_what_the_bot_needs_is_in_the_build_context(path: str) -> None:
    assert (ROOT / path).exists()
    assert is_in_build_context(path)


@pytest.mark.parametrize(
    "signature",
    ["isolation_forest.manifest.json.sig", "attack_model.manifest.json.sig", "policy.yaml.sig"],
)
def test_signatures_get_into_every_image_where_there_are_any(signature: str) -> None:
    assert is_in_build_context(signature)
    copies = [
        arguments.split()[:-1]
        for stage in stages()
        for arguments in arguments_of("COPY", stage)
        if "isolation_forest.pkl" in arguments
    ]
    assert len(copies) == 2  # the bot's and the service's
    for sources in copies:
        found = [source for source in sources if fnmatch.fnmatchcase(signature, source)]
        # By a pattern that also matches the file itself: a build without signatures is no error.
        assert len(found) == 1
        assert fnmatch.fnmatchcase(signature.removesuffix(".sig"), found[0])


@pytest.mark.parametrize(
    "path",
    [
        "secrets.json",
        ".env",
        "src/.env",
        "src/utils/.env",
        "src/secrets.json",
        "src/chain/secrets.json",
        "src/keyfiles/UTC--2024-01-01T00-00-00",
        "src/id_rsa",
        "src/service/server.pem",
        "src/service/web/static/key.js",
        "keyfiles/UTC--2024-01-01T00-00-00",
        "forta.config.json",
        ".git/config",
        ".cache/blocks.parquet",
        "tests/agent/test_agent.py",
        "notebooks/training.ipynb",
        "node_modules/forta-agent/package.json",
        ".venv/bin/python",
        "src/detection/__pycache__/forest.cpython-311.pyc",
        "scripts/run.mjs",
        "anything-else",
    ],
)
def test_secrets_data_and_tools_stay_out_of_the_build_context(path: str) -> None:
    assert not is_in_build_context(path)


def test_every_data_file_of_the_sources_is_in_the_build_context() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "src"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for path in listed.stdout.splitlines():
        name = path.rsplit("/", 1)[1]
        is_left_out = path.startswith(("src/demo/", "src/backtest/")) or name.startswith(".")
        assert is_in_build_context(path) is not is_left_out, path


def test_the_service_keeps_its_database_in_a_volume_of_its_own_user() -> None:
    service = next(stage for stage in stages() if ("FROM", "base AS service") in stage)
    (user,) = arguments_of("USER", service)
    (volume,) = arguments_of("VOLUME", service)
    assert f"--from=service-build --chown={user} {volume} {volume}" in arguments_of("COPY", service)
    assert f"DATABASE_URL=sqlite:///{volume}/service.db" in arguments_of("ENV", service)
    (check,) = arguments_of("HEALTHCHECK", service)
    assert "SERVICE_PORT" in check


def test_every_package_that_the_bot_imports_is_in_the_build_context() -> None:
    for source in [ROOT / "src/agent.py", *(ROOT / "src/utils").glob("*.py")]:
        for module in re.findall(r"^from (src[\w.]*) import", source.read_text(), re.MULTILINE):
            assert is_in_build_context(module.replace(".", "/") + ".py"), (source.name, module)


def test_the_image_of_the_second_sdk_serves_its_health_check() -> None:
    image = next(stage for stage in stages() if ("FROM", "base AS v2") in stage)
    (command,) = arguments_of("CMD", image)
    assert json.loads(command) == ["python3", "-m", "src.agent_v2"]
    (check,) = arguments_of("HEALTHCHECK", image)
    (port,) = arguments_of("EXPOSE", image)
    assert f'environ.get("FORTA_HEALTH_CHECK_PORT") or {port}' in check.replace("\\", "")
    (user,) = arguments_of("USER", image)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert is_in_build_context("requirements/v2.txt")
