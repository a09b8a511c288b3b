"""The common frame of all commands: parser, argument types, one-line errors, exit codes.

    @options("train", "Trains the model.", "examples: ...", run="src.training.run")
    def main(parser: Parser) -> None:
        parser.add_argument("--out", type=output_folder)

`main` is then the command: it parses its arguments, and imports what is heavy after that, since
`--help` needs none of it.

A command raises an error; the frame prints it as `train: what is wrong; what to do` on stderr.
Exit codes: 0 done, 1 failed (2 if 1 is a verdict), 2 wrong usage or a wrong setting, 130
interrupted, 141 if the reader of the output has closed the pipe; commands document their own codes.
"""

import argparse
import functools
import importlib
import logging
import math
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

from src import variables
from src.chain.clients.urls import is_http_url
from src.chain.errors import SourceError
from src.chain.networks import chain_ids_by_name
from src.downloads import local_file, local_model
from src.files import check_output_file, check_output_folder, reason
from src.variables import Kind

WRONG_USAGE = 2
INTERRUPTED = 130
_PIPE_CLOSED = 141  # 128 + SIGPIPE, as a shell shows it
_RESUMES = "; the same command resumes"

P = ParamSpec("P")
T = TypeVar("T")


class CommandError(Exception):
    """A command failed. The message says what is wrong and what to do.

    One line. `exit_code` is the process's, None for the command's usual one.
    """

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def command(
    name: str, *, failure: int = 1, resumes: bool = False
) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Make a `main` the command `npm run NAME`: its errors become one line and an exit code.

    Exceptions that bad input cannot cause (such as a KeyError) keep their traceback: they are bugs.
    `failure` is the exit code for errors that have none (`exit_code_of`); a command that `resumes`
    goes on after an interruption when it is called again.
    """
    hint = _RESUMES if resumes else ""

    def frame(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            try:
                code = main(*args, **kwargs)
                sys.stdout.flush()
            except CommandError as error:
                code = exit_code_of(error) or failure
                _say(name, str(error))
            except KeyboardInterrupt:
                code = INTERRUPTED
                _say(name, f"interrupted{hint}")
            except (SourceError, OSError) as error:
                if isinstance(error, BrokenPipeError) and _nobody_reads():
                    code = _PIPE_CLOSED
                else:
                    code = failure
                    _say(name, f"{described(error)}{hint}")
            except MemoryError:
                code = failure
                _say(name, "not enough memory")
            except (ValueError, RuntimeError) as error:
                code = exit_code_of(error) or failure
                _say(name, described(error))
            finally:
                _flush()
            return code

        return run

    return frame


def exit_code_of(error: BaseException) -> int | None:
    """The exit code that an exception states, such as `WRONG_USAGE` of an invalid setting."""
    return getattr(error, "exit_code", None)


def described(error: BaseException) -> str:
    """An exception as a readable message: its path, if it has one, and its reason."""
    path = getattr(error, "filename", None)
    return (
        f"{os.fsdecode(path)}: {reason(error)}" if isinstance(path, str | bytes) else reason(error)
    )


class Main(Protocol):
    """A command."""

    def __call__(self, arguments: list[str] | None = None) -> int:
        """Run it with the process's arguments, or others; returns its exit code."""


def options(
    name: str,
    description: str,
    epilog: str,
    *,
    run: str,
    failure: int = 1,
    resumes: bool = False,
) -> "Callable[[Callable[[Parser], None]], Main]":
    """Make a function that declares options the command `npm run NAME`, see `command`.

    `run` is the module whose `run` carries the command out with its parsed options.
    """

    def frame(declare: Callable[[Parser], None]) -> Main:
        @command(name, failure=failure, resumes=resumes)
        def main(arguments: list[str] | None = None) -> int:
            declared = parser(name, description, epilog)
            declare(declared)
            given = declared.parse(arguments)
            code: int = importlib.import_module(run).run(given)
            return code

        return main

    return frame


def parser(name: str, description: str | None, epilog: str) -> "Parser":
    """The parser of the command `npm run NAME`.

    The texts are shown verbatim. The epilog has at least an example, and the command's own exit
    codes.
    """
    return Parser(
        prog=f"npm run {name} --",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class Parser(argparse.ArgumentParser):
    """Reports errors in one line, without argparse's usage text."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._rules: list[tuple[str, Callable[[argparse.Namespace], object]]] = []

    def require(self, message: str, rule: Callable[[argparse.Namespace], object]) -> None:
        """Refuse options of which a rule does not hold, with this message."""
        self._rules.append((message, rule))

    def common(self, *names: str, **changes: Any) -> None:
        """Add options that several commands have, with changes to what they say otherwise."""
        for name in names:
            self.add_argument(name, **(_common_options()[name] | changes))

    def parse(self, arguments: list[str] | None) -> argparse.Namespace:
        """The options of a command line; None for the process's own."""
        given = self.parse_args(arguments)
        for message, rule in self._rules:
            if not rule(given):
                self.error(message)
        return given

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end."""
        name = self.prog.split()[2]
        self.exit(WRONG_USAGE, f"{name}: {message}; see {self.prog} --help\n")


# Argument types, for the `type` of `add_argument`.


def _of(kind: Kind[T]) -> Callable[[str], T]:
    def read(text: str) -> T:
        try:
            return kind.parse(text.strip())
        except ValueError:
            raise argparse.ArgumentTypeError(f"{_shown(text)} is not {kind.allowed}") from None

    return read


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""
    return _of(variables.whole_number(low, high))


natural = whole(0)


def chain(text: str) -> int:
    """A chain by its id, or by its name in findings."""
    chain_ids = chain_ids_by_name()
    if text in chain_ids:
        return chain_ids[text]
    with suppress(argparse.ArgumentTypeError):
        return positive(text)
    raise argparse.ArgumentTypeError(
        f"{_shown(text)} is neither a chain id nor one of {', '.join(sorted(chain_ids))}"
    )


def log_to_stderr() -> None:
    """Show what a long command is doing."""
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("src").setLevel(logging.INFO)


positive = whole(1)
port = _of(variables.PORT)


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """A number from `low` to `high`, both included; with `above`, `low` itself is not."""
    return _of(variables.number(low, high, above=above))


share = number(0, 1)
positive_number = number(0, above=True)


def path(text: str) -> Path:
    """A path; rejects an empty one, such as from an unset shell variable."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def model(text: str) -> Path:
    """A model file, or a URL of one, which is downloaded; raises DownloadError."""
    path(text)
    return local_model(text)


def data_file(text: str) -> Path:
    """A file of data, or a URL of one, which is downloaded; raises DownloadError."""
    path(text)
    return local_file(text)


def output_file(text: str) -> Path:
    """A path that a file can be written to; checked before the work instead of after it."""
    file = path(text)
    try:
        check_output_file(file)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{described(error)}; choose another file") from None
    return file


def output_folder(text: str) -> Path:
    """A path of a folder that files can be written into; it need not exist."""
    folder = path(text)
    try:
        check_output_folder(folder)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{described(error)}; choose another folder") from None
    return folder


def _common_options() -> dict[str, dict[str, Any]]:
    """What `add_argument` is given for the options that several commands have."""
    return {
        "--out": {"type": output_folder, "metavar": "DIR"},
        "--model": {
            "type": model,
            "metavar": "FILE",
            "help": "a model ($MODEL_PATH, else the project's)",
        },
        "--threshold": {
            "type": share,
            "metavar": "S",
            "help": "score from which a transaction is an anomaly ($ANOMALY_THRESHOLD, else the "
            "model's)",
        },
        "--from-block": {"type": natural, "metavar": "A", "help": "first block, included"},
        "--to-block": {"type": natural, "metavar": "B", "help": "last block, included"},
        "--patience": {
            "type": positive_number,
            "metavar": "S",
            "default": 120.0,
            "help": "seconds to retry a failing node (%(default)g)",
        },
        "--jobs": {"type": positive, "metavar": "N", "default": 1, "help": "processes (1)"},
        "--created-at": {
            "type": whole(0, 253_402_300_799),  # the last second of the year 9999
            "metavar": "SECONDS",
            "default": os.environ.get("SOURCE_DATE_EPOCH") or str(int(time.time())),
            "help": "the model's version, Unix seconds ($SOURCE_DATE_EPOCH, else now)",
        },
    }


def http_url(text: str) -> str:
    """An address of a server."""
    if not is_http_url(text):
        raise argparse.ArgumentTypeError("the value is not an http:// or https:// URL")
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _say(name: str, text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{name}: {text}\n")


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has closed it, like `head`."""
    with suppress(OSError, ValueError):
        pipes = select.poll()
        pipes.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in pipes.poll(0))
    return False


def _flush() -> None:
    """Flush the output, or drop it: Python's own attempt at exit would print a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
