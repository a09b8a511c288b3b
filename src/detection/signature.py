"""Ed25519 signatures of files, which prove the author of a model.

A manifest contains the hash of its model file, but whoever can replace both can write a new
manifest. A signature requires the private key, which stays where models are trained. Ed25519 is
used instead of an HMAC because a bot runs on other people's machines, and the key that verifies an
HMAC can also create one. The hexadecimal signature of `file` is in `file.sig` next to it.

Keys are 64 hexadecimal digits. The library is pycryptodome, which the Forta SDK brings along; it is
imported only where a key is set.
"""

import re
from pathlib import Path

from src.files import read_file, reason

_KEY = re.compile(r"[0-9a-fA-F]{64}")
# A signature of ours is of use for nothing else that the key may sign.
_MAX_SIGNATURE_BYTES = 1024
_PURPOSE = b"anomalous-token-transfers file v1\n"


def is_key(text: str) -> bool:
    """Whether `text` has the form of a private or public key."""
    return _KEY.fullmatch(text) is not None


def new_private_key() -> str:
    """A private key, from the system's randomness."""
    from Crypto.PublicKey import ECC  # noqa: PLC0415

    return ECC.generate(curve="Ed25519").seed.hex()


def public_key(private_key: str) -> str:
    """The public key that belongs to a private one."""
    from Crypto.PublicKey import ECC  # noqa: PLC0415

    # The library takes bytes here; its type hints say otherwise.
    key = ECC.construct(curve="Ed25519", seed=bytes.fromhex(private_key))  # type: ignore[arg-type]
    return key.public_key().export_key(format="raw").hex()


def signature_path(path: Path) -> Path:
    """Where the signature of a file lies: beside it, `.sig` appended."""
    return path.with_name(f"{path.name}.sig")


def sign(content: bytes, private_key: str) -> str:
    """The signature of a file's content, hexadecimal."""
    from Crypto.PublicKey import ECC  # noqa: PLC0415
    from Crypto.Signature import eddsa  # noqa: PLC0415

    # The library takes bytes here; its type hints say otherwise.
    key = ECC.construct(curve="Ed25519", seed=bytes.fromhex(private_key))  # type: ignore[arg-type]
    return eddsa.new(key, "rfc8032").sign(_PURPOSE + content).hex()


def is_signed(content: bytes, signature: str, public_key: str) -> bool:
    """Whether `signature` is that of `content` by the private key behind `public_key`."""
    from Crypto.Signature import eddsa  # noqa: PLC0415

    try:
        key = eddsa.import_public_key(bytes.fromhex(public_key))
        eddsa.new(key, "rfc8032").verify(_PURPOSE + content, bytes.fromhex(signature.strip()))
    except ValueError:
        return False
    return True


def problem_with(path: Path, content: bytes, public_key: str) -> str | None:
    """Why the content of the file at `path` is not to be trusted, or None when it is signed."""
    try:
        signature = read_file(signature_path(path), _MAX_SIGNATURE_BYTES).decode("ascii")
    except FileNotFoundError:
        return f"{signature_path(path).name} is missing, but MODEL_PUBLIC_KEY requires a signature"
    except (OSError, UnicodeDecodeError) as error:
        return f"{signature_path(path).name} cannot be read ({reason(error)})"
    if not is_signed(content, signature, public_key):
        return f"{path.name} is not signed by the key of MODEL_PUBLIC_KEY"
    return None
