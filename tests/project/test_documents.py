"""The documents: every command can be pasted, every option exists, every link leads somewhere."""

import contextlib
import importlib
import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
TEMPLATES = [
    REPOSITORY / ".github" / "pull_request_template.md",
    *sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").iterdir()),
]
"""What people fill in on GitHub."""
SCRIPTS = json.loads((REPOSITORY / "package.json").read_text())["scripts"]
FORTA_CLI = REPOSITORY / "node_modules/forta-agent/dist/cli/index.js"

PROGRAMS = {
    ".venv/bin/pip", ".venv/bin/python", "apt-get", "cat", "cp", "curl", "docker", "export",
    "gunzip", "gzip", "install", "mkdir", "mv", "npm", "promtool", "scp", "sqlite3", "ufw", "uv",
}  # fmt: skip
"""What a command line may start with. No bare `python`: that one is not the project's."""

OPERATORS = {"|", "||", "&&", ";", "&"}
HERE_DOCUMENT = re.compile(r"<<(\w+)\n.*?\n\1$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NPM_COMMAND = re.compile(r"npm run ([a-z][\w:-]*)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        document: its path in the repository.
        language: the word behind the fence, or nothing.
        text: without the document's indentation.
    """

    document: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command of a shell block: no environment, no redirection, no operator."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"


def blocks(document: Path) -> Iterator[Block]:
    name = str(document.relative_to(REPOSITORY))
    for indentation, language, text in FENCE.findall(document.read_text()):
        yield Block(name, language, re.sub(f"^{indentation}", "", text, flags=re.MULTILINE))


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block, pipelines and lists taken apart."""
    joined = HERE_DOCUMENT.sub("", block.text).replace("\\\n", " ")
    for line in joined.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.wordchars += "{}$@,!+^%:#"
        words: list[str] = []
        redirected = False
        for word in lexer:
            if word in OPERATORS:
                yield Command(block.document, tuple(words))
                words = []
            elif redirected or set(word) <= {"<", ">"}:
                redirected = not redirected
            elif words or not re.fullmatch(r"[A-Z_]+=.*", word, re.DOTALL):
                words.append(word)
        if words:
            yield Command(block.document, tuple(words))


SHELL = [block for path in DOCUMENTS for block in blocks(path) if block.language == "sh"]
COMMANDS = [command for block in SHELL for command in commands(block)]
NPM = [command for command in COMMANDS if command.words[0] == "npm"]


def _script(words: tuple[str, ...]) -> str:
    return words[2] if words[1] == "run" else words[1]


def test_there_is_something_to_check() -> None:
    assert len(SHELL) > 20
    assert len(NPM) > 40


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_fenced_blocks_state_their_language(path: Path) -> None:
    assert [block.text for block in blocks(path) if not block.language] == []


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.document)
def test_a_shell_block_can_be_pasted(block: Block) -> None:
    checked = subprocess.run(
        ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
    )
    assert checked.stderr == ""
    assert not re.search(r"\.\.\.|\[-|(?<!<)<[A-Za-z]", block.text), (
        "a placeholder that a shell chokes on"
    )
    for line in block.text.splitlines():
        command = line.strip()
        if not command.startswith("#"):
            remark = re.search(r"\S {2,}(?!#)\S", command)
            assert remark is None, f"a comment without #: {command}"


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_starts_with_a_known_program(command: Command) -> None:
    """Alternatives (`list | show`) read as a pipe into a program called show."""
    assert command.words[0] in PROGRAMS


@pytest.mark.parametrize("path", [*DOCUMENTS, *TEMPLATES], ids=lambda path: path.name)
def test_every_npm_script_exists(path: Path) -> None:
    assert set(NPM_COMMAND.findall(path.read_text())) - SCRIPTS.keys() == set()


@cache
def _help(module: str, *arguments: str) -> str:
    """What a command's parser prints for --help, without a process of its own."""
    name = module if importlib.util.find_spec(module).submodule_search_locations is None else ""
    loaded = importlib.import_module(name or f"{module}.__main__")
    output = io.StringIO()
    with (
        patch.object(sys, "argv", [module, *arguments, "--help"]),
        contextlib.redirect_stdout(output),
        pytest.raises(SystemExit) as ended,
    ):
        loaded.main()
    assert ended.value.code == 0
    return output.getvalue()


def _options(script: str, arguments: tuple[str, ...]) -> str:
    """A text that names every option of a script."""
    line = SCRIPTS[script]
    if script == "test":
        return subprocess.check_output([sys.executable, "-m", "pytest", "--help"], text=True)
    module = re.search(r"python -m ([\w.]+)", line)
    if module is not None:
        subcommand = arguments[:1] if arguments and arguments[0].isalpha() else ()
        text = _help(module[1])
        return text + _help(module[1], *subcommand) if "COMMAND ..." in text else text
    shell = re.search(r"bash (\S+)", line)
    if shell is not None:
        return (REPOSITORY / shell[1]).read_text()
    return " ".join(f"--{name}" for name in re.findall(r"option\('(\w+)'", FORTA_CLI.read_text()))


@pytest.mark.parametrize("command", NPM, ids=str)
def test_every_option_exists(command: Command) -> None:
    script = _script(command.words)
    if "--" not in command.words:
        assert not [word for word in command.words if word.startswith("--")], "npm takes these"
        return
    arguments = command.words[command.words.index("--") + 1 :]
    options = {word.split("=")[0] for word in arguments if word.startswith("--")}
    if options:
        known = set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", _options(script, arguments)))
        assert options - known == set()


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a git checkout")
def test_what_the_commands_write_stays_out_of_git() -> None:
    """Whoever follows the documents has a clean `git status` afterwards."""
    options = {"--out", "--to", "--html", "--json", "--save-reference", "--report"}
    written = {"transaction-0x12345678.html", "evaluation", "secrets.json"}
    for command in COMMANDS:
        pairs = zip(command.words, command.words[1:], strict=False)
        written |= {path for option, path in pairs if option in options}
    # A folder's pattern matches what lies in it.
    own = sorted(path for path in written if not path.startswith(("-", "/")))
    paths = [path if Path(path).suffix else f"{path}/file" for path in own]
    assert "recordings/four-blocks/file" in paths
    ignored = subprocess.run(
        ["git", "check-ignore", *paths], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ignored.stdout.splitlines() == paths


def _anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    text = FENCE.sub("", path.read_text())
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in LINK.findall(FENCE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


@pytest.mark.parametrize("path", [*DOCUMENTS, *TEMPLATES], ids=lambda path: path.name)
def test_every_document_that_is_named_exists(path: Path) -> None:
    for name in re.findall(r"\bdocs/[\w-]+\.md\b", path.read_text()):
        assert (REPOSITORY / name).is_file(), name


NAMED_FILE = re.compile(r"(?<![\w/.-])(?:src|tests|scripts|benchmarks|fuzz|deploy)/[\w/.-]*\w")
CODE_SPAN = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)`")
GUIDES = sorted((REPOSITORY / "docs").glob("adding-*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_of_the_code_that_is_named_exists(path: Path) -> None:
    named = NAMED_FILE.findall(FENCE.sub("", path.read_text()))
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


@cache
def _words_of_the_code() -> frozenset[str]:
    """Every word in the files that a guide may name things of."""
    files = [REPOSITORY / name for name in (".env.example", "package.json", "policy.yaml")]
    for folder in ("src", "tests", "scripts"):
        files += (REPOSITORY / folder).glob("**/*.py")
    return frozenset(word for file in files for word in re.findall(r"\w+", file.read_text()))


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_every_name_in_a_guide_for_contributors_exists(path: Path) -> None:
    """In the code, or among the lines that the guide itself adds to it."""
    text = path.read_text()
    added = {word for block in blocks(path) for word in re.findall(r"\w+", block.text)}
    words = {word for span in CODE_SPAN.findall(FENCE.sub("", text)) for word in span.split(".")}
    files = {"py", "md", "yaml", "json", "mjs", "txt"}
    assert words - _words_of_the_code() - added - files == set()


@pytest.mark.parametrize("path", TEMPLATES[1:], ids=lambda path: path.name)
def test_an_issue_form_has_what_github_asks_for(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert form.keys() >= {"name", "description", "body"}
    questions = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(question["attributes"]["label"] for question in questions)
    assert len({question["id"] for question in questions}) == len(questions) > 0


def test_commit_hooks_run_what_lint_runs_and_need_no_network() -> None:
    repositories = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    commands = {" ".join(hook["entry"].split()[:2]) for hook in hooks}
    assert commands == {".venv/bin/ruff check", ".venv/bin/ruff format", ".venv/bin/mypy"}
    lint = (REPOSITORY / "scripts" / "lint.sh").read_text()
    assert all(command.removeprefix(".venv/bin/") in lint for command in commands)


def test_package_json_alone_states_the_version() -> None:
    """npm keeps a copy in its lock, by its own rules."""
    version = json.loads((REPOSITORY / "package.json").read_text())["version"]
    lock = json.loads((REPOSITORY / "package-lock.json").read_text())
    assert [lock["version"], lock["packages"][""]["version"]] == [version, version]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert "version" in project["dynamic"]
    stated = re.compile(rf"(?<![\d.]){re.escape(version)}(?![\d.])")
    files = (path for path in (REPOSITORY / "src").rglob("*.py"))
    assert [path for path in files if stated.search(path.read_text())] == []
    assert f"\n## {version}\n" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_index_lists_every_guide() -> None:
    listed = set(LINK.findall((REPOSITORY / "docs" / "README.md").read_text()))
    guides = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"README.md"}
    assert guides - listed == set()


def test_front_page_and_model_card_state_what_is_found_of_new_attacks() -> None:
    measured = (REPOSITORY / "docs" / "known_exploits.md").read_text()
    sentence = re.search(
        r"^Of (\d+) .*? flags (\d+) \((\d+%)\).*?; AUC (\S+ \(\S+\))\.", measured, re.M
    )
    assert sentence is not None
    assert sentence[0] in (REPOSITORY / "docs/model/MODEL_CARD.md").read_text()
    attacks, flagged, share, auc = sentence.groups()
    front_page = (REPOSITORY / "README.md").read_text()
    assert f"| {attacks} mainnet attacks" in front_page
    assert f"| {flagged} ({share}) | {auc} |" in front_page
