"""`python -m scripts.demo_picture`: draws the demo's findings as docs/images/demo.svg."""

import io
import os
import pty
import re
import sys
from pathlib import Path
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

PICTURE: Final = Path(__file__).parent.parent / "docs" / "images" / "demo.svg"
_WIDTH: Final = 116
_FORMAT: Final = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Without the fonts of another site."""
_FIRST: Final = "Findings"
_AFTER: Final = "What next"  # what is before the first and after this heading is left out


def main() -> int:
    """Run the demo in a terminal and draw its findings; returns the demo's exit code."""
    output = bytearray()

    def read(terminal: int) -> bytes:
        data = os.read(terminal, 2**16)
        output.extend(data)
        return data

    status = pty.spawn([sys.executable, "-m", "src.demo"], read)
    shown = Text.from_ansi(output.decode().replace("\r\n", "\n"))
    lines = [line.rstrip() for line in shown.plain.split("\n")]
    part = shown.split("\n")[lines.index(_FIRST) : lines.index(_AFTER)]
    console = Console(record=True, width=_WIDTH, file=io.StringIO())
    console.print(Text("\n").join(part), end="")
    console.save_svg(str(PICTURE), title="npm run demo", code_format=_FORMAT)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
