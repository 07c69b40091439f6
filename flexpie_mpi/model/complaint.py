"""What onnxruntime says when it refuses something, as a sentence for people who do not read its sources."""

from __future__ import annotations

import re

from ..core.document import printable

_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PARENTHESES = r"\((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*\)"
_SIGNATURE = rf"[^()]*{_PARENTHESES}(?:::\S*?{_PARENTHESES}\S*)*(?: const)?(?: \[with [^]]*\])? "
_PLACE = re.compile(
    rf"(?:/\S+\.(?:h|hpp|cc|cpp):\d+ {_SIGNATURE}|(?<!\S)\w+\.(?:h|hpp|cc|cpp):\d+ (?:[\w~]+(?:\(\))? )?)"
    r"(?:.{1,200}? was false\. (?=\S))?"
)
_NODE = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ")
_LONGEST, _LONGEST_READ = 400, 20_000


def reason(error: BaseException) -> str:
    """The sentence in an onnxruntime error: without codes, places in its sources and signatures of its functions.

    Parameters
    ----------
    error : exception

    Returns
    -------
    str
        One line that can be printed, with a full stop.
    """
    raw = " ".join(str(error)[:_LONGEST_READ].split())
    text = _PLACE.sub("", _CODE.sub("", raw + " "))
    text = _NODE.sub(lambda found: f"{found[1]} '{found[2]}': " if found[2] else f"{found[1]}: ", text).strip()
    text = printable(text or type(error).__name__, _LONGEST)
    if "IR version" in text or "opset" in text.lower():
        text = text.rstrip(". ") + "; export the model at an older version or install a newer onnxruntime"
    return text.rstrip(".!") + "."
