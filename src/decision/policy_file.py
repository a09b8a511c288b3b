"""Reads the policy file and, if a key is configured, checks its signature."""

from pathlib import Path

from src.detection.policy import MAX_POLICY_BYTES, Policy, PolicyError, parse_policy
from src.detection.signature import problem_with
from src.files import read_file, reason


def load_policy(path: Path, public_key: str | None = None) -> Policy:
    """Read a policy file, which must be signed if there is a `public_key`.

    Raises:
        PolicyError: it is unreadable, not signed, or invalid.
    """
    return parse_policy(read_policy(path, public_key), path.name)


def read_policy(path: Path, public_key: str | None = None) -> str:
    """The text of a policy file, which must be signed if there is a `public_key`.

    Raises:
        PolicyError: it is unreadable, or not signed.
    """
    try:
        content = read_file(path, MAX_POLICY_BYTES)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        kind = "no such file" if isinstance(error, FileNotFoundError) else reason(error)
        raise PolicyError(str(path), None, f"cannot be read: {kind}") from None
    if public_key is not None and (problem := problem_with(path, content, public_key)):
        raise PolicyError(path.name, None, problem)
    return text
