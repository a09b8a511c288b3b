"""Checks of untrusted JSON text before it is parsed, in linear time.

A regular expression for a string that requires the closing quote takes minutes for 100 kB of
escaped quotes without one, because it searches for the end again from each of them, and blocks the
whole process. The patterns here read nothing twice.
"""

import json
import re

# An unclosed string extends to the end; possessive quantifiers prevent backtracking.
_STRING_OR_COMMENT = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?|//[^\r\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/)?', re.DOTALL
)
_STRING = re.compile(r'"[^"]*+"?')
_NO_BRACKET = re.compile(r"[^\[\]{}]++")


def is_nested_deeper(text: str | bytes | bytearray, levels: int) -> bool:
    """Whether arrays and objects in a JSON text are nested deeper than a limit.

    Bytes are decoded as `json.loads` does.

    The parser recurses in C: where a library has raised Python's recursion limit, a text of a
    hundred thousand brackets ends the process.
    """
    if not isinstance(text, str):
        try:  # as the parser does
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        except UnicodeDecodeError:
            return False  # the parser stops here too
    if text.count("[") + text.count("{") <= levels:
        return False
    depth = 0
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", unescaped)):
        depth += 1 if bracket in "[{" else -1
        if depth > levels:
            return True
    return False


def without_comments(text: str) -> str:
    """Strip `//` and `/* */` comments, which the Forta CLI allows in JSON."""
    return _STRING_OR_COMMENT.sub(lambda match: match[0] if match[0][0] == '"' else " ", text)
