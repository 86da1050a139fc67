"""A hook of MkDocs: TeX in the pages becomes MathML, which browsers draw by themselves: no JavaScript, nothing fetched.

`pymdownx.arithmatex` finds the formulas (``$…$`` and ``$$…$$``), latex2mathml converts them.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """What MkDocs calls with the HTML of each page."""
    return with_mathml(html, page.file.src_uri)


def with_mathml(html: str, page: str) -> str:
    """The HTML of a page with its formulas as MathML.

    Args:
        html: a page in which arithmatex (generic) has marked the formulas.
        page: its name, for the error.

    Raises:
        PluginError: a formula cannot be converted.
    """
    html = _DISPLAY.sub(lambda found: _scrolling(_mathml(unescape(found[1]), page, "block")), html)
    return _INLINE.sub(lambda found: _mathml(unescape(found[1]), page, "inline"), html)


def _scrolling(mathml: str) -> str:
    """A formula wider than a telephone is scrolled by itself, and the page is not."""
    return f'<div style="overflow-x: auto; overflow-y: hidden">{mathml}</div>'


def _mathml(tex: str, page: str, display: str) -> str:
    """One formula as MathML. latex2mathml leaves a command that it does not know in its output."""
    try:
        mathml = convert(tex, display=display)
    except Exception as error:  # latex2mathml has no common base of its errors
        raise PluginError(
            f"docs/{page}: TeX must be what latex2mathml can convert. Received {tex!r}: {error}"
        ) from error
    if "\\" in mathml or tex.count("{") != tex.count("}"):
        raise PluginError(
            f"docs/{page}: TeX must have closed braces and commands that latex2mathml knows. Received {tex!r}."
        )
    if re.search(r'mathvariant="(?!normal)', mathml):
        raise PluginError(f"docs/{page}: browsers draw no script or blackboard letters in MathML. Received {tex!r}.")
    return mathml
