"""The style of a method in every figure: a colour for its family, dashes for its local variant."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["BAND", "Style", "family", "png", "style_of"]

#: Okabe and Ito's colours, distinguishable with any colour vision.
_COLOURS = {
    "ERM": "#000000",
    "Mix": "#E69F00",
    "M-Mix": "#D55E00",
    "ProbMix": "#56B4E9",
    "M-ProbMix": "#0072B2",
    "M-ProbMix*": "#009E73",
}
_FURTHER = ("#CC79A7", "#5D3A9B", "#8C6D1F", "#6B6B6B")
BAND = "#8A8A8A"
_DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))
_MEMBERS = re.compile(r"\d+x (.+)")


@dataclass(frozen=True)
class Style:
    """Colour, line and whether a box is hatched."""

    colour: str
    line: str | tuple[int, tuple[float, ...]]
    hatched: bool


def family(method: str) -> str:
    """ERM, Mix, M-Mix, ProbMix, M-ProbMix or M-ProbMix*, an ensemble's members' family, or "further methods".

    Example:
        >>> family("LocM-ProbMix*"), family("5x ERM"), family("RegMixup")
        ('M-ProbMix*', 'ERM', 'further methods')
    """
    match = _MEMBERS.fullmatch(method)
    name = (match[1] if match else method).removeprefix("Loc")
    return name if name in _COLOURS else "further methods"


def style_of(method: str, place: int = 0) -> Style:
    """The style of a method; ``place`` is its position in the panel, by which further methods differ."""
    ensemble = _MEMBERS.fullmatch(method) is not None
    name = family(method)
    if name not in _COLOURS:
        return Style(_FURTHER[place % len(_FURTHER)], _DASHES[place % len(_DASHES)], False)
    local = method.split("x ")[-1].startswith("Loc")
    return Style(_COLOURS[name], _DASHES[(2 if ensemble else 0) + local], local)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure's PNG, the same bytes for the same figure."""
    FigureCanvasAgg(figure)  # becomes the figure's canvas, without a display
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from font"
        )  # a user's name may have any characters; those without a glyph show as a box
        figure.savefig(buffer, dpi=dpi, format="png", metadata={"Software": None})
    return buffer.getvalue()
