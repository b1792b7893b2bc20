"""What all pictures share: colours, resolution, and text of unknown origin."""

from __future__ import annotations

from functools import cache
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

# Okabe and Ito's palette: told apart with any colour vision, and in grey by lightness.
GREEN, ORANGE, BLUE, GREY, INK = "#009E73", "#D55E00", "#0072B2", "#9AA0A6", "#24292F"
DPI = 150

_FALLBACK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei",
                   "Malgun Gothic", "WenQuanYi Zen Hei", "Arial Unicode MS", "Segoe UI Symbol")  # fmt: skip


def write(figure: Figure, x: float, y: float, text: str, *, size: float, **style: Any) -> Text:
    """Write into a figure: a dollar sign is no mathematics, and a script may need another font."""
    style = {"color": INK, **style}
    return figure.text(x, y, text, fontsize=size, parse_math=False, fontfamily=fonts(), **style)


@cache
def fonts() -> list[str]:
    """Families to try in turn, those that this machine has."""
    known = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in known)]


def shorten(text: str, length: int) -> str:
    """One printable line of at most `length` characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= length else text[: length - 1].rstrip(" ,;:(-") + "…"
