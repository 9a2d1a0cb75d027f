"""Pictures and videos inside a page, as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from rltrain.core import Array

TYPES = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg"}


def data_uri(path: Path) -> str:
    """The file, whose suffix says what it is."""
    return _uri(path.read_bytes(), TYPES[path.suffix])


def jpeg_uri(frame: Array) -> str:
    """A frame (H, W, 3) uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=82)
    return _uri(buffer.getvalue(), TYPES[".jpg"])


def png_uri(path: Path, colours: int = 256) -> tuple[str, int]:
    """A picture of few colours, in a third of its bytes, and its width in pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(colours).save(buffer, "PNG", optimize=True)
        width = picture.width
    return _uri(buffer.getvalue(), TYPES[".png"]), width


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
