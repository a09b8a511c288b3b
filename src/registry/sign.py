"""Sign models and policies: `npm run sign`."""

import os
import sys
from pathlib import Path

from src import cli
from src.detection.bundle_files import manifest_path
from src.detection.signature import is_key, new_private_key, public_key, sign, signature_path
from src.files import write_file
from src.settings import model_public_key
from src.variables import SettingsError

_MODELS = (".pkl", ".npz")
_DESCRIPTION = "Sign models and policies with the private key in MODEL_SIGNING_KEY."
_EPILOG = """\
examples:
  npm run sign -- --new-key                      print a private and a public key
  MODEL_SIGNING_KEY=... npm run sign -- isolation_forest.pkl policy.yaml

The signature of a model covers its manifest, which contains the hash of the model file. If
MODEL_SIGNING_KEY is set, `npm run train`, `train:fraud` and `retrain` sign automatically. Programs
that load models (bot, service, commands) need MODEL_PUBLIC_KEY and never the private key.

exit codes: 0 signed, 1 a file is unreadable or not writable, 2 wrong usage.
"""


@cli.command("sign")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = cli.parser("sign", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "files", nargs="*", type=cli.path, help="model files (.pkl, .npz), policies"
    )
    parser.add_argument("--new-key", action="store_true", help="make a key pair and print it")
    options = parser.parse_args(arguments)
    if options.new_key and options.files:
        parser.error("pass either files or --new-key")
    if options.new_key:
        private = new_private_key()
        sys.stdout.write(f"MODEL_SIGNING_KEY={private}\nMODEL_PUBLIC_KEY={public_key(private)}\n")
        return 0
    key = os.environ.get("MODEL_SIGNING_KEY", "").strip()
    if not options.files or not is_key(key):
        parser.error(
            "pass files and set MODEL_SIGNING_KEY (64 hexadecimal digits), or pass --new-key"
        )
    for file in options.files:
        path = manifest_path(file) if file.suffix in _MODELS else file
        write_signature(path, key)
        sys.stdout.write(f"{signature_path(path)}\n")
    return 0


def configured_key() -> str | None:
    """The private key for signing trained models, or None.

    Raises:
        SettingsError: MODEL_SIGNING_KEY is not a key, or not that of MODEL_PUBLIC_KEY.
    """
    key = os.environ.get("MODEL_SIGNING_KEY", "").strip()
    if key and not is_key(key):
        raise SettingsError("MODEL_SIGNING_KEY", "64 hexadecimal digits")
    public = model_public_key()
    if key and public is not None and public_key(key) != public:
        raise SettingsError(
            "MODEL_SIGNING_KEY",
            "the private key of MODEL_PUBLIC_KEY, or what it signs would not be loaded",
        )
    return key or None


def sign_model(model_path: Path, private_key: str | None) -> None:
    """Sign a model that was just trained, if there is a key. Raises OSError."""
    if private_key:
        write_signature(manifest_path(model_path), private_key)


def write_signature(path: Path, private_key: str) -> None:
    """Write the signature of a file next to it. Raises OSError."""
    signature = sign(path.read_bytes(), private_key)
    write_file(signature_path(path), f"{signature}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
