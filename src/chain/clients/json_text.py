"""Looking at JSON from outside before it is parsed, in time that grows with its length alone.

A pattern for a string that insists on the closing quote takes minutes for 100 kB of escaped quotes
without one, since it looks for the end anew from each of them, and nothing else of the process runs
meanwhile. Here nothing is read twice.
"""

import json
import re

# What is not closed reaches to the end; possessive, so that nothing is tried a second way.
_STRING_OR_COMMENT = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?|//[^\r\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/)?', re.DOTALL
)
_STRING = re.compile(r'"[^"]*+"?')
_NO_BRACKET = re.compile(r"[^\[\]{}]++")


def is_nested_deeper(text: str | bytes | bytearray, levels: int) -> bool:
    """Whether arrays and objects are nested deeper than so many levels in a JSON text.

    Bytes are read in the encoding in which `json.loads` would read them.

    The parser recurses in C, and py_ecc, which web3 brings along, raises Python's recursion limit:
    without this check a text of a hundred thousand brackets ends the process.
    """
    if not isinstance(text, str):
        try:  # as the parser does
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        except UnicodeDecodeError:
            return False  # nor does the parser go on
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
    """JSON as the Forta CLI reads it, `//` and `/* */` comments allowed, as JSON."""
    return _STRING_OR_COMMENT.sub(lambda match: match[0] if match[0][0] == '"' else " ", text)
