"""Models and data by URL: what is named is used, or the start is refused."""

import hashlib
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from src.detection.bundle_files import ATTACK_MODEL_FILE, DRIFT_FILE, FRAUD_MODEL_FILE, REPORT_FILE
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.supervised.model import load_fraud_model
from src.downloads import DownloadError, local_file, local_folder, local_model
from src.registry.bundle import ATTACK_FILES, FOREST_FILES, FRAUD_FILES
from src.service.settings import load_service_settings
from src.settings import DEFAULT_MODEL_PATH, load_settings
from src.training.supervised.__main__ import main as train_fraud
from src.variables import SettingsError
from tests.registry.bundles import small_fraud_bundle
from tests.support.object_store import BUCKET, object_store, use_object_store

SHIPPED = DEFAULT_MODEL_PATH.parent


@pytest.fixture(scope="module")
def fraud_bundle(tmp_path_factory):
    return small_fraud_bundle(tmp_path_factory.mktemp("fraud"), 1_700_000_000)


@pytest.fixture
def served(httpserver, fraud_bundle):
    """The models over HTTP; `https://` is the same but for TLS."""
    httpserver.no_handler_status_code = 404
    for folder, names in ((fraud_bundle, FRAUD_FILES[:2]), (SHIPPED, FOREST_FILES[:2])):
        for name in names:
            httpserver.expect_request(f"/m/{name}").respond_with_data((folder / name).read_bytes())
    httpserver.expect_request("/m/moved.npz").respond_with_data(
        "", status=302, headers={"location": "/m/fraud_model.npz"}
    )
    return httpserver


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_model_by_https_is_the_one_whose_digest_is_stated(served, fraud_bundle):
    url = served.url_for(f"/m/{FRAUD_MODEL_FILE}")
    for name in (DRIFT_FILE, REPORT_FILE):
        served.expect_request(f"/m/{name}").respond_with_data(name)
    path = local_model(f"{url}#sha256={digest(fraud_bundle / FRAUD_MODEL_FILE)}")
    assert load_fraud_model(path).version == "1700000000"
    for name in (DRIFT_FILE, REPORT_FILE):
        assert path.with_name(name).read_text() == name
    with pytest.raises(DownloadError, match="has SHA-256"):
        local_model(f"{url}#sha256={'0' * 64}")
    with pytest.raises(DownloadError, match="sha256sum"):
        local_model(url)


def test_a_setting_takes_a_url_and_refuses_what_cannot_be_had(served, fraud_bundle):
    forest = served.url_for(f"/m/{DEFAULT_MODEL_PATH.name}")
    settings = load_settings({"MODEL_PATH": f"{forest}#sha256={digest(DEFAULT_MODEL_PATH)}"})
    assert load_model(settings.model_path, FEATURE_NAMES).version
    missing = served.url_for("/secret-of-the-url/none.npz") + "?key=secret-of-the-url#sha256="
    missing += "0" * 64
    for name, load in (
        ("MODEL_PATH", load_settings),
        ("SUPERVISED_MODEL_PATH", load_settings),
        ("FRAUD_MODEL_PATH", load_service_settings),
    ):
        with pytest.raises(SettingsError, match=f"{name} must be what can be had") as refusal:
            load({name: missing})
        assert "secret-of-the-url" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/model.npz#sha256=" + "0" * 64, "must be a file, s3://"),
        ("https://host/model.npz#sha256=abc", "must be a file, s3://"),
        ("https://host/#sha256=" + "0" * 64, "must be a file, s3://"),
        ("://https://user:word-that-is-secret@host/model.npz", "must be a file, s3://"),
        ("https://host/word-that-is-secret", "sha256sum"),
        ("s3://user:word-that-is-secret@bucket/model.npz", "contains credentials"),
    ],
)
def test_what_is_no_usable_url_is_refused(url, said):
    with pytest.raises(DownloadError, match=said) as refusal:
        local_file(url)
    assert "word-that-is-secret" not in str(refusal.value)


def test_a_redirect_is_not_followed(served):
    with pytest.raises(DownloadError, match="HTTP status 302"):
        local_file(served.url_for("/m/moved.npz") + f"#sha256={'0' * 64}")


def test_a_folder_has_no_digest(served):
    with pytest.raises(DownloadError, match="a folder comes from s3"):
        local_folder(served.url_for("/m/"), ["transfers.parquet"])


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with object_store(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.mark.integration
def test_models_and_data_come_from_s3(s3, fraud_bundle, tmp_path, monkeypatch, capsys):
    use_object_store(monkeypatch, s3)
    bucket = S3FileSystem(use_listings_cache=False)
    for name in (*FOREST_FILES[:2], *ATTACK_FILES[:2]):
        bucket.pipe_file(f"{BUCKET}/m/{name}", (SHIPPED / name).read_bytes())
    path = load_settings({"MODEL_PATH": f"s3://{BUCKET}/m/{DEFAULT_MODEL_PATH.name}"}).model_path
    assert load_model(path, FEATURE_NAMES).version
    assert path.with_name(ATTACK_MODEL_FILE).is_file()
    bucket.pipe_file(f"{BUCKET}/d/transfers.parquet", b"x")
    folder = local_folder(f"s3://{BUCKET}/d", ["transfers.parquet", "transactions.parquet"])
    assert [file.name for file in folder.iterdir()] == ["transfers.parquet"]
    with pytest.raises(SettingsError, match="must be what can be had"):
        load_service_settings({"FRAUD_MODEL_PATH": f"s3://{BUCKET}/m/{FRAUD_MODEL_FILE}"})
    missing = f"s3://{BUCKET}/none.csv"
    assert train_fraud(["--data", missing, "--label", "Class", "--out", str(tmp_path)]) == 1
    assert missing in capsys.readouterr().err
    use_object_store(monkeypatch, s3, secret="wrong")
    with pytest.raises(DownloadError, match=r"signature|denied|Forbidden"):
        local_file(f"s3://{BUCKET}/m/{DEFAULT_MODEL_PATH.name}#sha256={'1' * 64}")
