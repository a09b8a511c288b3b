"""The manifest of the bot on Forta's second SDK."""

import getpass
import io
import json
from pathlib import Path

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from scripts.manifest_v2 import main

KEY = "0x" + "11" * 32
BOT_ID = "0x" + "ab" * 32
USUAL = ["--bot-id", BOT_ID, "--documentation", "QmReadme"]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "key.json"
    # One round, for the speed of the test.
    path.write_text(json.dumps(Account.encrypt(KEY, "secret", kdf="pbkdf2", iterations=1)))
    return str(path)


def written(capsys, key_file, *arguments):
    assert main([*USUAL, "--key", key_file, *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_manifest_is_signed_by_its_owner(monkeypatch, capsys, key_file):
    monkeypatch.setenv("FORTA_PASSWORD", "secret")
    document = written(capsys, key_file, "--image", "repo/bot@sha256:00", "--chain", "base")
    manifest = document["manifest"]
    text = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False)
    signature = bytes.fromhex(document["signature"][2:])
    signer = Account._recover_hash(keccak(text=text), signature=signature)
    assert signer == manifest["from"] == Account.from_key(KEY).address
    package = json.loads(Path("package.json").read_text())
    assert (manifest["name"], manifest["version"]) == (package["displayName"], package["version"])
    assert (manifest["botId"], manifest["agentIdHash"]) == (BOT_ID, BOT_ID)
    assert (manifest["protocolVersion"], manifest["chainIds"]) == (2, [8453])
    assert (manifest["imageReference"], manifest["external"]) == ("repo/bot@sha256:00", False)
    assert manifest["chainSettings"] == package["chainSettings"]
    assert manifest["timestamp"].endswith(" GMT")


def test_without_an_image_the_owner_runs_the_bot(monkeypatch, capsys, key_file):
    monkeypatch.setenv("FORTA_PASSWORD", "secret")
    manifest = written(capsys, key_file)["manifest"]
    assert manifest["external"]
    assert "imageReference" not in manifest
    assert manifest["chainIds"] == [1]


def test_a_wrong_password_says_so_and_writes_nothing(monkeypatch, capsys, key_file):
    monkeypatch.setenv("FORTA_PASSWORD", "guess")
    assert main([*USUAL, "--key", key_file]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "another password" in said.err
    assert "guess" not in said.err


def test_a_bot_id_that_is_none_is_wrong_usage(key_file):
    with pytest.raises(SystemExit, match="2"):
        main(["--bot-id", "0xYOUR-BOT-ID", "--key", key_file, "--documentation", "Qm"])


def test_a_password_that_nobody_types_is_one_line(monkeypatch, capsys, key_file):
    monkeypatch.delenv("FORTA_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("getpass.getpass", getpass.fallback_getpass)  # as without a terminal
    with pytest.warns(getpass.GetPassWarning):
        assert main([*USUAL, "--key", key_file]) == 1
    assert "manifest:v2: no password" in capsys.readouterr().err


def test_a_key_that_is_a_folder_is_said_before_the_password_is_asked_for(capsys, tmp_path):
    assert main([*USUAL, "--key", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"manifest:v2: {tmp_path}: Is a directory\n"
