"""The registry, on a folder and on a real S3 server: the same behaviour, asked the same way."""

import json
import os
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from s3fs import S3FileSystem
from werkzeug import Request, Response

from src.detection.bundle_files import ATTACK_MODEL_FILE, DRIFT_FILE
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.files import only_hosts
from src.registry import __main__ as models
from src.registry.bundle import (
    ATTACK_MANIFEST_FILE,
    BLOCKS_FILE,
    EVALUATION_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
)
from src.registry.drift_reference import TrafficSample
from src.registry.records import step_name
from src.registry.registry import (
    ENTRY_FILE,
    BundleRefused,
    ChampionChanged,
    Registry,
    RegistryError,
    code_version,
)
from src.registry.store import Store, StoreError
from src.settings import PROJECT_ROOT
from src.training.retraining.__main__ import main as retrain
from tests.registry.bundles import make_bundle
from tests.support.attack import write_small_attack_model
from tests.support.fake_chain import serve
from tests.support.object_store import BUCKET, use_object_store
from tests.support.waiting import PATIENCE


def add_all(registry, bundles):
    return [registry.add(bundle, code_version="abc").id for bundle in bundles]


def test_a_name_is_given_once(url):
    store = Store(url)
    assert store.create("a/b", b"one")
    assert not store.create("a/b", b"two")
    assert store.read("a/b", 3) == b"one"
    with pytest.raises(StoreError, match="a/b is larger than 2 bytes"):
        store.read("a/b", 2)
    assert store.children("a") == ["b"]
    assert store.children("nowhere") == []
    with pytest.raises(FileNotFoundError):
        store.read("a/c", 3)
    with pytest.raises(StoreError, match="not a name within"):
        store.read("../outside", 3)


def test_a_bundle_goes_in_once_and_comes_out_whole(registry, bundles, tmp_path):
    entry = registry.add(bundles[0], code_version="abc", evaluation=b'{"auc": 1}')
    assert entry.id.startswith("1700000000-")
    assert entry.data["transactions"] == 200
    assert registry.add(bundles[0], code_version="other") == entry
    assert registry.ids() == [entry.id]
    path = registry.fetch(entry.id, tmp_path / "models")
    assert load_model(path, FEATURE_NAMES).version == "1700000000"
    assert json.loads((path.parent / "evaluation.json").read_text()) == {"auc": 1}
    assert (tmp_path / "models/current" / MODEL_FILE).resolve() == path.resolve()


def test_a_model_with_another_manifest_is_not_taken_for_the_one_that_is_stored(
    registry, bundles, tmp_path
):
    entry = registry.add(bundles[0], code_version="abc")
    shutil.copytree(bundles[0], tmp_path / "changed")
    manifest = tmp_path / "changed" / MANIFEST_FILE
    content = json.loads(manifest.read_text()) | {"anomaly_threshold": 0.9}
    manifest.write_text(json.dumps(content))
    with pytest.raises(RegistryError, match=r"stored with another isolation_forest\.manifest"):
        registry.add(tmp_path / "changed", code_version="abc")
    manifest.write_text(json.dumps(content | {"model_version": 1700000009}))
    assert registry.add(tmp_path / "changed", code_version="abc").id != entry.id


def test_the_bundle_of_this_checkout_includes_its_evaluation_and_its_blocks(registry):
    entry = registry.add(PROJECT_ROOT, code_version="abc")
    assert {MODEL_FILE, EVALUATION_FILE, BLOCKS_FILE} <= entry.files.keys()
    blocks = (PROJECT_ROOT / "docs/model" / BLOCKS_FILE).read_bytes()
    assert registry.read(entry.id, BLOCKS_FILE) == blocks


def test_promotion_and_rollback_move_the_aliases(registry, bundles):
    first, second, third = add_all(registry, bundles)
    registry.promote(first)
    registry.challenge(second)
    step = registry.promote("challenger", reason="better")
    assert (step.champion, step.challenger, step.previous) == (second, None, first)
    registry.promote(third, expected=second)
    step = registry.rollback()
    assert (step.champion, step.previous) == (second, third)
    assert registry.rollback().champion == third
    assert registry.promote(third) == registry.ledger()  # nothing to do, no step
    assert [step.action for step in registry.history()] == [
        "promote", "challenge", "promote", "promote", "rollback", "rollback",
    ]  # fmt: skip


def test_what_else_lies_in_the_store_is_passed_over(registry, bundles, capsys):
    """An editor's backup, what a file manager leaves, what S3's console calls a folder."""
    first, second = add_all(registry, bundles[:2])
    registry.promote(first)
    registry.promote(second)
    step = "000000000001.json"
    for name in (f"{step}~", f"{step}.bak", "Thumbs.db", "notes", "999999999999 (1).json"):
        registry.store.create(f"ledger/{name}", b"{}")
        registry.store.create(f"models/{first}.{name}", b"x")
        registry.store.create(f"data/{name}", b"x")
    assert [step.champion for step in registry.history()] == [first, second]
    assert registry.rollback().number == 3
    assert registry.resolve(first[:12]) == first
    assert registry.ids() == [first, second]
    assert models.main(["data", "list", "--store", registry.store.name]) == 0
    assert "holds no data sets yet" in capsys.readouterr().out


@pytest.mark.parametrize("number", [0, 3, 10**12 - 1])
def test_a_step_with_a_gap_before_it_is_refused(bundles, tmp_path, number):
    """It would hide the promotions after it."""
    registry = Registry(Store(str(tmp_path / "store")))
    first, second = add_all(registry, bundles[:2])
    step = replace(registry.promote(first), number=number)
    planted = tmp_path / "store/ledger" / step_name(number)
    planted.write_bytes(step.to_bytes())
    for use in (registry.ledger, registry.history, lambda: registry.promote(second)):
        with pytest.raises(RegistryError, match=r"ledger: .* restore the missing step"):
            use()
    planted.unlink()
    assert registry.promote(second).number == 2


def test_a_conflict_of_two_uploads_is_no_taken_name(monkeypatch):
    """S3 answers 409 while another upload of the name is under way, which may yet fail."""
    answers = iter([409, 409, 200])
    asked = []

    def answer(request: Request) -> Response:
        asked.append((request.method, request.headers.get("If-None-Match")))
        status = next(answers)
        code = "<Error><Code>ConditionalRequestConflict</Code></Error>" if status == 409 else ""
        return Response(code, status, mimetype="application/xml")

    with serve(answer) as url:
        use_object_store(monkeypatch, url)
        assert Store(f"s3://{BUCKET}/here").create("ledger/000000000001.json", b"{}")
    S3FileSystem.clear_instance_cache()
    assert asked == [("PUT", "*")] * 3


@pytest.mark.parametrize("name", ["/{0}", "//{0}", "{0}/x", ".", "x", "1700000000-0123456789AB"])
def test_a_model_is_put_nowhere_but_into_its_folder(bundles, tmp_path, name):
    """Whoever writes to the store could else choose where on the bot's disk files are put."""
    store = tmp_path / "store"
    registry = Registry(Store(str(store)))
    registry.promote(registry.add(bundles[0], code_version="abc").id)
    (honest,) = registry.ids()
    forged = name.format(str(tmp_path / "elsewhere").lstrip("/"))
    shutil.copytree(store / "models" / honest, f"{store}/models/{forged}", dirs_exist_ok=True)
    entry = Path(f"{store}/models/{forged}/{ENTRY_FILE}")
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"id": forged}))
    step = store / "ledger/000000000001.json"
    fields = json.loads(step.read_text()) | {"champion": forged, "digests": None}
    step.write_text(json.dumps(fields))
    for model in ("champion", forged):
        with pytest.raises(RegistryError):
            registry.fetch(model, tmp_path / "models")
    assert not (tmp_path / "elsewhere").exists()
    assert not list(tmp_path.glob("models/*"))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("entry", {"files": [MODEL_FILE, MODEL_FILE.replace(".pkl", ".manifest.json")]}),
        ("entry", {"files": {MODEL_FILE: 1}}),
        ("entry", {"model_version": 10**30}),
        ("entry", {"data": "x"}),
        ("step", {"digests": "x"}),
        ("step", {"champion": 7}),
        ("step", {"at": None}),
        ("step", {"reason": ["x"]}),
    ],
)
def test_a_forged_record_is_refused_and_named(bundles, tmp_path, kind, change):
    registry = Registry(Store(str(tmp_path)))
    entry = registry.add(bundles[0], code_version="abc")
    registry.promote(entry.id)
    path = tmp_path / (
        f"models/{entry.id}/{ENTRY_FILE}" if kind == "entry" else "ledger/000000000001.json"
    )
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    if kind == "entry":  # a step that vouches for the forged entry
        ledger = tmp_path / "ledger/000000000001.json"
        ledger.write_text(json.dumps(json.loads(ledger.read_text()) | {"digests": None}))
    with pytest.raises(RegistryError, match="malformed"):
        registry.fetch("champion", tmp_path / "models-here")


def test_a_promotion_that_compared_with_another_champion_is_refused(registry, bundles):
    first, second, third = add_all(registry, bundles)
    registry.promote(first)
    registry.promote(second)
    with pytest.raises(ChampionChanged, match="compare again"):
        registry.promote(third, expected=first)
    assert registry.ledger().champion == second


def test_promotions_at_once_leave_one_whole_champion_and_lose_no_step(url, bundles):
    ids = add_all(Registry(Store(url)), bundles)
    start = threading.Barrier(len(ids))
    errors = []

    def promote(model_id):
        try:
            registry = Registry(Store(url))
            start.wait(PATIENCE)
            registry.promote(model_id)
        except Exception as error:  # noqa: BLE001  a thread cannot fail a test by itself
            errors.append(error)

    threads = [threading.Thread(target=promote, args=[model_id]) for model_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    registry = Registry(Store(url))
    steps = registry.history()
    assert [step.number for step in steps] == [1, 2, 3]
    assert {step.champion for step in steps} == set(ids)
    assert steps[-1].previous == steps[-2].champion  # each saw the one before it
    assert registry.entry("champion").id == steps[-1].champion


def test_a_crash_between_files_leaves_the_old_champion(registry, bundles, monkeypatch):
    (first,) = add_all(registry, bundles[:1])
    registry.promote(first)
    create = registry.store.create

    def dies(name, content):
        if name.endswith((ENTRY_FILE, ".manifest.json")):
            raise KeyboardInterrupt
        return create(name, content)

    monkeypatch.setattr(registry.store, "create", dies)
    with pytest.raises(KeyboardInterrupt):
        registry.add(bundles[1], code_version="abc")
    monkeypatch.undo()
    assert registry.ids() == [first]
    assert registry.ledger().champion == first
    (torn,) = [name for name in registry.store.children("models") if name != first]
    for use in (registry.promote, registry.entry):
        with pytest.raises(BundleRefused, match="incomplete"):
            use(torn)
    assert registry.add(bundles[1], code_version="abc").id == torn  # once more, to the end
    assert registry.promote(torn).champion == torn


def test_an_upload_is_finished_with_another_report_of_the_same_model(
    tmp_path, bundles, monkeypatch
):
    """Which states how long the training took, so that it is never the same again."""
    registry = Registry(Store(str(tmp_path / "store")))
    create = registry.store.create

    def dies(name, content):
        if name.endswith(ENTRY_FILE):
            raise KeyboardInterrupt
        return create(name, content)

    monkeypatch.setattr(registry.store, "create", dies)
    with pytest.raises(KeyboardInterrupt):
        registry.add(bundles[0], code_version="abc", evaluation=b'{"seconds": 1}')
    monkeypatch.undo()
    entry = registry.add(bundles[0], code_version="abc", evaluation=b'{"seconds": 2}')
    assert json.loads(registry.read(entry.id, EVALUATION_FILE)) == {"seconds": 1}
    assert registry.promote(entry.id).champion == entry.id


def test_a_pull_into_a_folder_that_is_no_link_leaves_nothing_behind(tmp_path, bundles):
    registry = Registry(Store(str(tmp_path / "store")))
    (only,) = add_all(registry, bundles[:1])
    (tmp_path / "models/current/here").mkdir(parents=True)
    with pytest.raises(RegistryError, match="current is a folder"):
        registry.fetch(only, tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["current"]


@pytest.mark.parametrize("name", [MODEL_FILE, "isolation_forest.manifest.json", ENTRY_FILE])
@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content + b" "])
def test_a_torn_or_changed_file_is_refused_everywhere(tmp_path, bundles, name, damage):
    registry = Registry(Store(str(tmp_path / "store")))
    first, second, _ = add_all(registry, bundles)
    registry.promote(first)
    registry.promote(second)
    registry.fetch("champion", tmp_path / "models")
    file = tmp_path / "store/models" / first / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BundleRefused):
        registry.rollback()
    with pytest.raises(BundleRefused):
        registry.fetch(first, tmp_path / "models")
    assert registry.ledger().champion == second
    assert (tmp_path / "models/current").resolve().name == second


@pytest.mark.parametrize("name", [MODEL_FILE, ENTRY_FILE])
def test_a_huge_file_is_refused_before_it_fills_the_memory(tmp_path, bundles, name, capsys):
    store = str(tmp_path / "store")
    registry = Registry(Store(store))
    first, second = add_all(registry, bundles[:2])
    registry.promote(first)
    with (tmp_path / "store/models" / first / name).open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(BundleRefused, match="is larger than"):
        registry.fetch(first, tmp_path / "models")
    assert models.main(["--store", store, "list"]) == 0
    assert second in capsys.readouterr().out
    with (tmp_path / "store/ledger/000000000001.json").open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(StoreError, match="is larger than"):
        registry.ledger()


def test_a_named_pipe_in_the_store_is_not_waited_for(tmp_path):
    (tmp_path / "ledger").mkdir()
    os.mkfifo(tmp_path / "ledger/000000000001.json")
    with pytest.raises(StoreError, match="Is not a regular file"):
        Registry(Store(str(tmp_path))).ledger()


@pytest.mark.parametrize("lost", [MODEL_FILE, ENTRY_FILE])
def test_a_lost_champion_can_be_replaced_and_is_not_returned_to(
    bundles, tmp_path, lost, capsys, monkeypatch
):
    monkeypatch.setenv("STORE_URL", str(tmp_path / "store"))
    registry = Registry(Store(str(tmp_path / "store")))
    first, second = add_all(registry, bundles[:2])
    registry.promote(first)
    registry.challenge(second)
    (tmp_path / "store/models" / first / lost).unlink()
    assert models.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "champion" in listed
    assert ("cannot be used" in listed) == (lost == ENTRY_FILE)
    assert registry.promote("challenger").champion == second
    with pytest.raises(BundleRefused, match="incomplete"):
        registry.rollback()
    assert registry.entry("champion").id == second
    if lost == MODEL_FILE:  # adding it again puts the file back
        assert registry.add(bundles[0], code_version="other").id == first
        assert registry.rollback().champion == first


def test_a_bundle_that_lies_about_itself_does_not_get_in(tmp_path, bundles):
    registry = Registry(Store(str(tmp_path / "store")))
    shutil.copytree(bundles[0], tmp_path / "bundle")
    with (tmp_path / "bundle" / MODEL_FILE).open("ab") as file:
        file.write(b"!")
    with pytest.raises(BundleRefused, match="SHA-256"):
        registry.add(tmp_path / "bundle", code_version="abc")
    assert registry.store.children("models") == []


@pytest.mark.integration
def test_wrong_keys_are_refused_and_not_shown(s3_url_with_wrong_key, bundles):
    registry = Registry(Store(s3_url_with_wrong_key))
    with pytest.raises(StoreError) as refusal:
        registry.add(bundles[0], code_version="abc")
    assert "wrong-secret" not in str(refusal.value)


@pytest.fixture
def s3_url_with_wrong_key(s3, monkeypatch):
    use_object_store(monkeypatch, s3, secret="wrong-secret")
    return f"s3://{BUCKET}/wrong"


def test_models_are_listed_by_their_age(tmp_path):
    """As numbers: SOURCE_DATE_EPOCH may give versions of fewer digits."""
    registry = Registry(Store(str(tmp_path / "store")))
    made = (1_000_000_000, 999_999_999, 9)
    for version in made:
        bundle = make_bundle(tmp_path / str(version), version)
        registry.add(bundle, code_version="abc")
    assert [int(one.split("-")[0]) for one in registry.ids()] == sorted(made)


def test_a_champion_whose_entry_was_changed_hides_no_other_model(tmp_path, bundles, capsys):
    store = str(tmp_path / "store")
    registry = Registry(Store(store))
    first, second = add_all(registry, bundles[:2])
    registry.promote(first, reason="\x1b[2Jred\nalert")
    entry = tmp_path / "store/models" / first / ENTRY_FILE
    entry.write_bytes(entry.read_bytes() + b" ")
    assert models.main(["--store", store, "list"]) == 0
    listed = capsys.readouterr().out
    assert second in listed
    assert "cannot be used" in listed
    assert models.main(["--store", store, "history"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    with pytest.raises(RegistryError, match="no forest model ''"):
        Registry(Store(store)).resolve("")


def test_ids_may_be_shortened_while_they_are_unique(tmp_path, bundles):
    registry = Registry(Store(str(tmp_path)))
    first, *_ = add_all(registry, bundles)
    assert registry.resolve(first[:12]) == first
    with pytest.raises(RegistryError, match="3 models have this prefix"):
        registry.resolve("17")
    with pytest.raises(RegistryError, match="npm run models -- list"):
        registry.resolve("nothing")
    with pytest.raises(RegistryError, match=r"no champion of kind forest .* add . --promote"):
        registry.resolve("champion")


def test_the_command_line_tells_the_whole_story(url, bundles, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STORE_URL", url)

    def run(*arguments):
        code = models.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, said = run("list")
    assert (code, "npm run models -- add . --promote" in said) == (1, True)
    assert f"{Store(url).name} is a new store" in run("add", str(bundles[0]), "--promote")[1]
    said = run("add", str(bundles[1]))[1]
    assert ("is the challenger" in said, "new store" in said) == (True, False)
    assert "training" in json.loads(run("show", "challenger")[1])
    assert "model_version: 1700000000 -> 1700000001" in run("diff", "champion", "challenger")[1]
    assert run("diff", "champion", "champion") == (0, "no difference\n")
    assert run("promote", "challenger", "--reason", "better")[0] == 0
    listed = run("list")[1].splitlines()
    assert "previous" in listed[1]
    assert "champion" in listed[2]
    assert run("rollback")[0] == 0
    assert "better" in run("history")[1]
    assert listed[0].split() == ["id", "made", "added", "trained", "on", "code", "alias"]
    code, said = run("pull", "--to", str(tmp_path / "models"))
    assert code == 0
    path = said.strip().split("MODEL_PATH=")[1]
    assert load_model(Path(path), FEATURE_NAMES).version == "1700000000"
    assert run("promote", "nothing")[0] == 1


def test_a_mistyped_store_is_an_error(url, bundles, capsys):
    """Not "no models yet": the next command would wait for a champion for ever."""
    assert models.main(["add", str(bundles[0]), "--store", url, "--promote"]) == 0
    for typo in (f"{url}x", f"{url[:-1]}"):
        assert models.main(["list", "--store", typo]) == 1
        assert "there is no store at" in capsys.readouterr().err


@pytest.mark.parametrize("typo", ["s3:/models/x", "s3//models/x", "s3:models", "https:/host/x"])
def test_a_url_without_a_slash_is_no_folder(bundles, tmp_path, monkeypatch, capsys, typo):
    monkeypatch.chdir(tmp_path)
    assert models.main(["add", str(bundles[0]), "--store", typo]) == 2
    assert "is a slash missing?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_only_the_projects_own_commit_counts(tmp_path, monkeypatch):
    """A tarball unpacked inside another project's repository is not that one's commit."""
    monkeypatch.setenv("GITHUB_SHA", "f" * 40)
    assert code_version() != "f" * 40
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*commit, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr("src.registry.registry.PROJECT_ROOT", tmp_path / "unpacked")
    assert code_version() == "unknown"
    monkeypatch.setattr("src.registry.registry.PROJECT_ROOT", tmp_path)
    assert len(code_version()) == 40


def test_without_a_store_the_command_says_what_to_set(monkeypatch, capsys):
    monkeypatch.delenv("STORE_URL", raising=False)
    for main, arguments in ((models.main, ["list"]), (models.main, ["add", "."]), (retrain, [])):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert "set STORE_URL" in capsys.readouterr().err
    assert "STORE_URL" not in os.environ


# The attack model beside the forest


def with_attack_model(bundle: Path, folder: Path, seed: int = 0) -> Path:
    shutil.copytree(bundle, folder)
    forest = load_model(folder / MODEL_FILE, FEATURE_NAMES)
    write_small_attack_model(forest, folder=folder, seed=seed)
    return folder


def test_an_attack_model_travels_with_its_forest(bundles, tmp_path):
    registry = Registry(Store(str(tmp_path / "store")))
    folder = with_attack_model(bundles[0], tmp_path / "bundle")
    alone = registry.add(bundles[0], code_version="abc")
    both = registry.add(folder, code_version="abc")
    other = registry.add(with_attack_model(bundles[0], tmp_path / "other", 1), code_version="abc")
    assert len({alone.id, both.id, other.id}) == 3
    assert registry.add(folder, code_version="abc").id == both.id
    path = registry.fetch(both.id, tmp_path / "out")
    for name in (ATTACK_MODEL_FILE, ATTACK_MANIFEST_FILE):
        assert path.with_name(name).read_bytes() == (folder / name).read_bytes()


def test_the_attack_model_is_shown_and_compared(bundles, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STORE_URL", str(tmp_path / "store"))
    for seed in (0, 1):
        folder = with_attack_model(bundles[0], tmp_path / str(seed), seed)
        assert models.main(["add", str(folder)] + ["--promote"] * (seed == 0)) == 0
    capsys.readouterr()
    assert models.main(["show"]) == 0
    shown = json.loads(capsys.readouterr().out)["attack_model"]
    manifest = json.loads((tmp_path / "0" / ATTACK_MANIFEST_FILE).read_text())
    assert shown == {name: manifest[name] for name in shown}
    assert {"sha256", "inputs", "training"} <= shown.keys()
    assert models.main(["diff", "champion", "challenger"]) == 0
    assert f"{ATTACK_MANIFEST_FILE}: sha256: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (DRIFT_FILE, {}, ""),
        (DRIFT_FILE, {"attack_model_version": ""}, ""),
        (DRIFT_FILE, {"model_version": "1600000000"}, "is of another model"),
        (DRIFT_FILE, {"attack_model_version": "1600000000"}, "is of another model"),
        (DRIFT_FILE, {"size": 0}, "0 transactions"),
        (DRIFT_FILE, None, "not JSON"),
        (EVALUATION_FILE, {}, ""),
        (EVALUATION_FILE, {"model_sha256": "ab"}, "is of another model"),
        (EVALUATION_FILE, None, "not JSON"),
    ],
)
def test_a_document_of_another_model_does_not_get_in(bundles, tmp_path, name, change, problem):
    """The service would check for drift no more, and nothing in the registry is overwritten."""
    folder = with_attack_model(bundles[0], tmp_path / "bundle")
    version = json.loads((folder / ATTACK_MANIFEST_FILE).read_text())["model_version"]
    empty = TrafficSample("1700000000", 5, 0, {}, None, attack_version=str(version))
    content = {DRIFT_FILE: empty.to_json(), EVALUATION_FILE: '{"auc": 1}'}[name]
    text = "{" if change is None else json.dumps(json.loads(content) | change)
    (folder / name).write_text(text)
    registry = Registry(Store(str(tmp_path / "store")))
    if not problem:
        assert name in registry.add(folder, code_version="abc").files
        return
    with pytest.raises(BundleRefused, match=problem):
        registry.add(folder, code_version="abc")
    assert registry.store.children("models") == []


def test_an_attack_model_of_another_forest_is_refused(bundles, tmp_path):
    registry = Registry(Store(str(tmp_path / "store")))
    folder = with_attack_model(bundles[0], tmp_path / "bundle")
    for name in (MODEL_FILE, MANIFEST_FILE):
        shutil.copy(bundles[1] / name, folder / name)
    with pytest.raises(BundleRefused, match="calibrated"):
        registry.add(folder, code_version="abc")
    (folder / ATTACK_MODEL_FILE).unlink()
    with pytest.raises(BundleRefused, match="attack_model"):
        registry.add(folder, code_version="abc")


@pytest.mark.parametrize(
    "url", ["file://models/x", "file://localhost/models", "s3://", "s3:///x", "s3://b::file:///x"]
)
def test_a_folder_has_no_host_and_a_bucket_has_a_name(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"must be file:///folder or s3://bucket/prefix"):
        Store(url)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", ["http", "https", "memory", "reference", "ftp", "gs", "zip"])
def test_a_store_is_a_folder_or_a_bucket(protocol):
    with pytest.raises(StoreError, match="a folder or s3://bucket/prefix"):
        Store(f"{protocol}://somewhere/else")


def test_an_error_of_the_store_names_hosts_only():
    text = "cannot connect to http://user:word@s3.example:9000/path?key=word or s3://bucket/key"
    assert only_hosts(text) == "cannot connect to http://s3.example or s3://bucket"
    assert only_hosts("http://[bad") == "a URL"
