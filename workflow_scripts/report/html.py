"""Pieces of an HTML page: tables, rows, pictures that stand in the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

PHOTO_QUALITY = 75  # of 100 (ours)
MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}


def row(cells: Sequence[str]) -> str:
    """Return one row of a table from plain texts."""
    return f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in cells)}</tr>"


def grid(head: Sequence[str], lines: Sequence[str], last: str = "", kind: str = "") -> str:
    """Return a table that scrolls by itself.

    Args:
        head: headings, plain text.
        lines: rows of HTML.
        last: a row of HTML that stays at the end when a reader sorts.
        kind: `texts` for a table of words.
    """
    cells = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "\n".join(lines)
    foot = f"<tfoot>{last}</tfoot>" if last else ""
    mark = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll" tabindex="0"><table{mark}><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody>{foot}</table></div>"
    )


def texts(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of plain texts."""
    return grid(head, [row(line) for line in lines], kind="texts")


def details(title: str, content: str, is_open: bool = False) -> str:
    """Return content that a reader opens."""
    return f"<details{' open' * is_open}><summary>{escape(title)}</summary>{content}</details>"


def picture(path: Path, caption: str) -> str:
    """Return a drawing on white with its caption; a dark page may invert its colours.

    Args:
        path: PNG or SVG; its bytes stand in the page.
        caption: plain text; also what a screen reader says.
    """
    return _figure(path.read_bytes(), MEDIA[path.suffix], caption, ' class="chart"')


def photograph(path: Path, caption: str) -> str:
    """Return a photograph with its caption, made small: a look at it, not its pixels.

    Args:
        path: any file that Pillow reads.
        caption: plain text; also what a screen reader says.
    """
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=PHOTO_QUALITY, method=2)
    return _figure(buffer.getvalue(), "image/webp", caption, "")


def _figure(content: bytes, media: str, caption: str, attributes: str) -> str:
    source = f"data:{media};base64,{base64.b64encode(content).decode()}"
    return (
        f'<figure><img{attributes} alt="{escape(caption)}" src="{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def anchor(text: str) -> str:
    """Return a name that an address may end with.

    >>> anchor("SSL transfer: linear")
    'ssl-transfer--linear'
    """
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in text.lower())
