"""A figure of matplotlib as an SVG inside a page: with its colours and fonts, and without names that clash."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from rltrain.report.style import COLOURS, FAINT, GRID, INK, PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
VARIABLES = {INK: "currentColor", FAINT: "var(--faint)", GRID: "var(--grid)", PAPER: "var(--paper)"} | {
    colour: f"var(--series-{index})" for index, colour in enumerate(COLOURS)
}
"""Colours of a figure, and what the page's style sheet says in their place."""
_COLOUR = re.compile("|".join(VARIABLES))
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"(font(?:-family)?:[^;]*?)(?:'[^']*'(?:, *)?)+(?:sans-serif)?")


def inline(figure: Figure, *, name: str, label: str) -> str:
    """The SVG of a figure.

    Args:
        figure: Drawn with the colours of `style`.
        name: Comes before every id, so that figures of one page do not clash.
        label: What a screen reader says.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_figure(buffer, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata",):
                parent.remove(child)
    _rename(root, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib.update({"role": "img", "aria-label": label, "focusable": "false"})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _rename(root: ElementTree.Element, name: str) -> None:
    """Keep only ids that something refers to, under names of this figure; put the page's colours and fonts in."""
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            used.update(_REFERENCE.findall(value))
            if key == f"{{{XLINK}}}href":
                used.add(value.removeprefix("#"))
    numbers = {old: f"{name}-{index}" for index, old in enumerate(sorted(used))}
    for element in root.iter():
        if (own := element.attrib.pop("id", None)) in numbers:
            element.set("id", numbers[str(own)])
        for key, value in element.attrib.items():
            if key == f"{{{XLINK}}}href":
                element.set(key, f"#{numbers[value.removeprefix('#')]}")
                continue
            value = _REFERENCE.sub(lambda found: f"url(#{numbers[found[1]]})", value)
            if key in ("style", "fill", "stroke"):
                value = _FONT.sub(r"\1inherit", _COLOUR.sub(lambda found: VARIABLES[found[0]], value))
            element.set(key, value)
