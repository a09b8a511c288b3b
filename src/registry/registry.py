"""The model registry: immutable bundles, and a ledger that records the champion.

  models/<id>/...            the bundle's files; entry.json is written last
  ledger/000000000001.json   champion, challenger and previous champion from this step on
  fraud/models/, fraud/ledger/   the same for another kind of model

A bundle's id is derived from its content. Every ledger step is a new object that only one writer
can create, so two simultaneous promotions become two consecutive steps, and a writer that dies
in between has changed nothing. The ledger holds the digests of entries, and entries those of their
files, so a truncated or modified bundle is rejected before it is read.
"""

import hashlib
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from src.detection.bundle_files import MAX_MODEL_BYTES
from src.detection.errors import ModelError
from src.files import read_file, write_file
from src.registry.bundle import (
    ATTACK_FILES,
    EVALUATION_FILE,
    FOREST,
    FOREST_FILES,
    FRAUD_FILES,
    Kind,
    Proved,
    bundle_file,
    problem_beside,
)
from src.registry.records import (
    ALIASES,
    CHAMPION,
    MAX_RECORD_BYTES,
    PREVIOUS,
    Entry,
    RecordMalformed,
    Step,
    is_id,
    parse_record,
    step_name,
    step_names,
)
from src.registry.store import ObjectTooLarge, Store
from src.settings import PROJECT_ROOT

ENTRY_FILE = "entry.json"
CURRENT = "current"

_ATTEMPTS = 20
_MODEL_FILES = (*FOREST_FILES, *ATTACK_FILES, *FRAUD_FILES)


class RegistryError(RuntimeError):
    """A request to the registry failed. The message says why and what to do."""


class BundleRefused(RegistryError):
    """A bundle is incomplete, was modified, or fails verification."""


class ChampionChanged(RegistryError):
    """Another model was promoted in the meantime."""


class Registry:
    """The models of one kind in one store.

    With a public key, bundles must be signed with its private key.
    """

    def __init__(self, store: Store, kind: Kind = FOREST, *, public_key: str | None = None) -> None:
        self.store = store
        self.kind = kind
        self.public_key = public_key
        self._models, self._ledger = f"{kind.folder}models", f"{kind.folder}ledger"

    def add(self, bundle: Path, *, code_version: str, evaluation: bytes | None = None) -> Entry:
        """Add the bundle in a folder; adding the same model again only puts lost files back.

        `evaluation` is JSON that replaces the folder's; see `bundle_file` for the files.

        Raises:
            BundleRefused: the bundle does not load, or a document in it is of another model.
            RegistryError: it is stored with another manifest or signature.
            StoreError: the store.
            OSError: a file of the folder is unreadable or too large.
        """
        paths = {name: bundle_file(bundle, name) for name in self.kind.files}
        contents = {
            name: read_file(path, MAX_MODEL_BYTES) for name, path in paths.items() if path.is_file()
        }
        if evaluation is not None:
            contents[EVALUATION_FILE] = evaluation
        proved = self._proved(contents, "the bundle")
        if problem := problem_beside(self.kind, contents, proved):
            raise BundleRefused(f"the bundle is invalid: {problem}")
        model_id = proved.id
        files = {name: _digest(content) for name, content in contents.items()}
        known = self._find(model_id)
        if known is not None:
            for name in _MODEL_FILES:
                if name in files and files[name] != known.files.get(name):
                    raise RegistryError(
                        f"{model_id} is stored with another {name}, and nothing is overwritten: "
                        "a changed model needs another model_version in its manifest"
                    )
            for name, content in contents.items():
                if files[name] == known.files.get(name):
                    self.store.create(f"{self._models}/{model_id}/{name}", content)
            return known
        for name, content in contents.items():
            path = f"{self._models}/{model_id}/{name}"
            if not self.store.create(path, content):
                # Of an upload that was not finished, which may have had another report.
                files[name] = _digest(self.store.read(path, MAX_MODEL_BYTES))
                if name in _MODEL_FILES and files[name] != _digest(content):
                    raise RegistryError(
                        f"an unfinished upload of {model_id} has another {name}; train the model "
                        "again"
                    )
        entry = Entry(
            id=model_id,
            model_version=proved.model_version,
            registered_at=int(time.time()),
            code_version=code_version,
            data=proved.data,
            files=files,
        )
        self.store.create(f"{self._models}/{model_id}/{ENTRY_FILE}", entry.to_bytes())
        return self.entry(model_id)

    def ids(self) -> list[str]:
        """The complete bundles, oldest first."""
        found = filter(self._find, self.store.children(self._models))
        return sorted(found, key=lambda model_id: (int(model_id.split("-")[0]), model_id))

    def entry(self, model: str) -> Entry:
        """The entry of an id or alias.

        Raises:
            RegistryError: it does not exist.
        """
        return self._entry(self.resolve(model), self.ledger())

    def resolve(self, model: str) -> str:
        """The id for an alias, an id or a unique prefix of an id.

        Raises:
            RegistryError: it does not exist.
        """
        if model in ALIASES:
            model_id = getattr(self.ledger(), model)
            if model_id is None:
                named = "previous champion" if model == PREVIOUS else model
                raise RegistryError(
                    f"there is no {named} of kind {self.kind.name} in {self.store.name}"
                    + (f": {self.kind.first}" if model == CHAMPION else "")
                )
            return str(model_id)
        stored = filter(is_id, self.store.children(self._models))
        found = [known for known in stored if model and known.startswith(model)]
        if model in found:
            return model
        if len(found) != 1:
            listed = f"npm run models -- list --kind {self.kind.name}"
            which = f"{len(found)} models have this prefix" if found else listed
            raise RegistryError(
                f"there is no {self.kind.name} model {model!r} in {self.store.name}: {which}"
            )
        return found[0]

    def read(self, model: str, name: str) -> bytes:
        """A file of a bundle, checked against its digest.

        Raises:
            RegistryError: there is no such model or file.
            BundleRefused: it was modified.
        """
        return self._file(self.entry(model), name)

    def fetch(self, model: str, folder: Path) -> Path:
        """Download a bundle, verify it, and point `folder/current` to it.

        The folder contains each bundle under its id; `current` is switched atomically, so a bot
        that starts meanwhile finds the complete old or new model.

        Returns:
            The path of the model file, without `current`.

        Raises:
            BundleRefused: it is incomplete or was modified; `current` is unchanged.
            RegistryError: `current` is a folder.
        """
        entry = self.entry(model)
        current = folder / CURRENT
        if current.is_dir() and not current.is_symlink():
            raise RegistryError(
                f"{current} is a folder, not the link that a pull replaces: move it"
            )
        contents = {name: self._file(entry, name) for name in entry.files}
        self._proved(contents, entry.id)
        target = folder / entry.id
        target.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_file(target / name, content)
        link = folder / f".{CURRENT}.{uuid.uuid4().hex}"
        link.symlink_to(entry.id, target_is_directory=True)
        link.replace(current)
        return target / self.kind.model_file

    def ledger(self) -> Step:
        """The current step."""
        names = self._steps()
        return self._step(names[-1]) if names else Step()

    def history(self) -> list[Step]:
        """Every step, oldest first."""
        return [self._step(name) for name in self._steps()]

    def challenge(self, model: str, *, reason: str = "") -> Step:
        """Make a model the challenger."""
        model_id = self.resolve(model)
        return self._advance(
            model_id, lambda now: replace(now, challenger=model_id), "challenge", reason
        )

    def promote(self, model: str, *, reason: str = "", expected: str | None = None) -> Step:
        """Make a model the champion, after downloading and verifying it.

        `expected` is the id of the champion that it was compared with; None for any.

        Raises:
            ChampionChanged: the champion is not the expected one.
            BundleRefused: the bundle is incomplete.
        """
        model_id = self.resolve(model)

        def promoted(now: Step) -> Step:
            if expected is not None and now.champion != expected:
                raise ChampionChanged(
                    f"the champion is now {now.champion}; {model_id} was compared with {expected}: "
                    "compare again"
                )
            if now.champion == model_id:
                return now
            challenger = None if now.challenger == model_id else now.challenger
            return replace(now, champion=model_id, previous=now.champion, challenger=challenger)

        return self._advance(model_id, promoted, "promote", reason)

    def rollback(self, *, reason: str = "") -> Step:
        """Return to the previous champion; a second rollback undoes the first.

        Raises:
            RegistryError: there is no previous champion.
            BundleRefused: its bundle is incomplete.
        """
        target = self.resolve(PREVIOUS)

        def back(now: Step) -> Step:
            if now.previous != target:
                raise ChampionChanged(
                    "another model was promoted meanwhile: check the history, then try again"
                )
            return replace(now, champion=now.previous, previous=now.champion)

        return self._advance(target, back, "rollback", reason)

    def _advance(
        self, model_id: str, change: Callable[[Step], Step], action: str, reason: str
    ) -> Step:
        """Write the next step; if another writer was faster, reread the ledger and retry."""
        self._prove(model_id)
        for _ in range(_ATTEMPTS):
            now = self.ledger()
            changed = change(now)
            if changed is now:
                return now
            # Of a lost bundle, which may be what is replaced, the digest before is all there is.
            known = now.digests or {}
            named = {changed.champion, changed.challenger, changed.previous} - {None}
            step = replace(
                changed,
                number=now.number + 1,
                digests={
                    name: known.get(name) or self._entry_digest(name, now)
                    for name in sorted(map(str, named))
                },
                action=action,
                reason=reason,
                at=int(time.time()),
                writer=uuid.uuid4().hex,
            )
            name = f"{self._ledger}/{step_name(step.number)}"
            content = step.to_bytes()
            # A retried request, whose first response was lost, finds its own step.
            if self.store.create(name, content):
                return step
            if self.store.read(name, MAX_RECORD_BYTES) == content:
                return step
        raise RegistryError("other writers were faster in every attempt: try again")

    def _proved(self, contents: Mapping[str, bytes], what: str) -> Proved:
        """Load a bundle from its files' contents, as its users would."""
        missing = [name for name in self.kind.required if name not in contents]
        if missing:
            raise BundleRefused(f"{what} lacks {', '.join(missing)}")
        with TemporaryDirectory() as folder:
            for name, content in contents.items():
                (Path(folder) / name).write_bytes(content)
            try:
                return self.kind.prove(Path(folder), self.public_key)
            except ModelError as error:
                raise BundleRefused(f"{what} is invalid: {error}") from None

    def _prove(self, model_id: str) -> None:
        entry = self._entry(model_id, self.ledger())
        contents = {name: self._file(entry, name) for name in entry.files}
        self._proved(contents, model_id)

    def _entry_digest(self, model_id: str, now: Step) -> str:
        self._entry(model_id, now)
        return _digest(self.store.read(f"{self._models}/{model_id}/{ENTRY_FILE}", MAX_RECORD_BYTES))

    def _find(self, model_id: str) -> Entry | None:
        try:
            return self._entry(model_id, Step())
        except RegistryError:
            return None

    def _entry(self, model_id: str, step: Step) -> Entry:
        # The id becomes a folder name.
        if not is_id(model_id):
            raise RegistryError(f"{model_id[:40]!r} is not a model id")
        try:
            content = self.store.read(f"{self._models}/{model_id}/{ENTRY_FILE}", MAX_RECORD_BYTES)
        except FileNotFoundError:
            raise BundleRefused(
                f"{model_id} is incomplete: its upload was not finished. Add it again."
            ) from None
        except ObjectTooLarge as error:
            raise BundleRefused(str(error)) from None
        expected = (step.digests or {}).get(model_id)
        if expected is not None and _digest(content) != expected:
            raise BundleRefused(
                f"{model_id}: {ENTRY_FILE} was modified after the model got an alias"
            )
        try:
            entry = parse_record(Entry, content)
            if entry.id != model_id:
                raise RecordMalformed("another model")
            if not set(self.kind.required) <= set(entry.files) <= set(self.kind.files):
                raise RecordMalformed("its list of files")
        except RecordMalformed as error:
            raise BundleRefused(f"{model_id}: {ENTRY_FILE} is malformed: {error}") from None
        return entry

    def _file(self, entry: Entry, name: str) -> bytes:
        if name not in entry.files:
            raise RegistryError(f"{entry.id} has no {name}")
        try:
            content = self.store.read(f"{self._models}/{entry.id}/{name}", MAX_MODEL_BYTES)
        except FileNotFoundError:
            raise BundleRefused(f"{entry.id} is incomplete: {name} is missing") from None
        except ObjectTooLarge as error:
            raise BundleRefused(str(error)) from None
        if _digest(content) != entry.files[name]:
            raise BundleRefused(
                f"{entry.id}: {name} has SHA-256 {_digest(content)}, but its entry states "
                f"{entry.files[name]}: the file is truncated or was modified. It is not used."
            )
        return content

    def _steps(self) -> list[str]:
        try:
            return step_names(self.store.children(self._ledger))
        except RecordMalformed as error:
            raise RegistryError(f"{self.store.name}/{self._ledger}: {error}") from None

    def _step(self, name: str) -> Step:
        try:
            content = self.store.read(f"{self._ledger}/{name}", MAX_RECORD_BYTES)
            step = parse_record(Step, content)
            if name != step_name(step.number):
                raise RecordMalformed("another number")
        except RecordMalformed as error:
            where = f"{self.store.name}/{self._ledger}/{name}"
            raise RegistryError(f"{where} is malformed: {error}") from None
        return step


def code_version() -> str:
    """The commit of this checkout, by git; "unknown" if it is no repository of its own.

    Unpacked inside another project's repository, git would answer with that one's commit.
    """

    def git(*arguments: str) -> str:
        answer = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        return answer.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != PROJECT_ROOT:
            return "unknown"
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
