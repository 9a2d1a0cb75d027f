"""Files that pictures with captions go into one after the other, as they are seen: MP4, GIF, and a contact sheet.

So an episode takes no more memory the longer it is. All pictures of one file are of one size.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.core import Array, RltrainError

END_SECONDS = 0.7
"""The last picture of an episode stays this long."""
MOMENTS = 6
"""Pictures of a contact sheet."""
KEPT = 60
"""Pictures of which a contact sheet chooses, at least, where there were so many."""
NARROWEST, HIGHEST = 320, 480
"""Pixels: a narrower picture is enlarged by a whole number, within this height, and lies on a page of this width."""
TWO_LINES = 560
"""Pixels of width below which a caption may take a second line."""
LINE = 18
"""Pixels from one line of a caption to the next."""
LARGEST_TEXT, SMALLEST_TEXT = 15, 7
MARGIN, GAP = 6, 8
"""Pixels beside a caption, and between the pictures of a contact sheet."""
DARK, BRIGHT = (24, 26, 31), (235, 236, 240)
SEPARATOR = "   "
"""Between parts of a caption, which are kept together."""


class CannotRender(RltrainError):
    """The environment cannot be shown in this way, or the file cannot be written."""

    exit_code = 2


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def annotate(frame: Array, caption: str) -> Array:
    """The frame (H, W, 3) with its caption below it; both sides of the result are even, as videos want them."""
    from PIL import Image, ImageDraw

    height, width = frame.shape[:2]
    factor = max(1, min(NARROWEST // width, HIGHEST // height))
    picture = Image.fromarray(frame.repeat(factor, 0).repeat(factor, 1))
    across = max(NARROWEST, picture.width + picture.width % 2)
    room = 1 if across >= TWO_LINES else 2
    down = picture.height + picture.height % 2
    canvas = Image.new("RGB", (across, down + LINE * room + 10), DARK)
    canvas.paste(picture, ((across - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    lines, font = _fitted(caption, across - 2 * MARGIN, room)
    top = down + 5 + LINE * (room - len(lines)) / 2
    for number, line in enumerate(lines):
        draw.text((MARGIN, top + LINE * (number + 0.5)), line, fill=BRIGHT, font=font, anchor="lm")
    return np.asarray(canvas)


def _fitted(caption: str, width: int, room: int) -> tuple[list[str], Any]:
    """The lines of a caption, at most `room`, in the largest font in which they fit; else cut in the smallest."""
    for size in range(LARGEST_TEXT, SMALLEST_TEXT - 1, -1):
        font = _font(size)
        lines = _wrapped(caption, width, font)
        if len(lines) <= room and all(font.getlength(line) <= width for line in lines):
            return lines, font
    lines = [*lines[: room - 1], SEPARATOR.join(lines[room - 1 :])]
    return [_cut(line, width, font) for line in lines], font


def _wrapped(caption: str, width: int, font: Any) -> list[str]:
    """As many parts on each line as fit."""
    lines: list[str] = []
    for part in caption.split(SEPARATOR):
        longer = f"{lines[-1]}{SEPARATOR}{part}" if lines else part
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _cut(line: str, width: int, font: Any) -> str:
    while font.getlength(line) > width:
        line = line.removesuffix("\u2026")[:-1] + "\u2026"
    return line


class Film(ABC):
    """A file in the making."""

    def __init__(self, path: Path, fps: int) -> None:
        self._path, self._fps = path, fps
        self.last: Array | None = None  # picture, with its caption
        self.told: Callable[[str], None] | None = None  # is handed the caption of every frame

    def show(self, frame: Array, caption: str) -> None:
        """Add a frame (H, W, 3), with its caption below it."""
        self.last = annotate(frame, caption)
        self._add(self.last)
        if self.told is not None:
            self.told(caption)

    def hold(self) -> None:
        """The last picture stays for a while: an episode is over."""
        assert self.last is not None
        for _ in range(int(END_SECONDS * self._fps)):
            self._add(self.last)

    @abstractmethod
    def _add(self, picture: Array) -> None:
        """Add a picture (H, W, 3)."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file."""


class Video(Film):
    """H.264 in MP4."""

    _container: Any = None

    def _add(self, picture: Array) -> None:
        import av

        if self._container is None:
            self._container = av.open(str(self._path), "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=self._fps)
            self._stream.height, self._stream.width = picture.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

    def close(self) -> None:
        """Write what the encoder still holds."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()


class Animation(Film):
    """A GIF of 64 colours, with no more than 25 pictures a second. Pictures are kept, in a byte a pixel."""

    def __init__(self, path: Path, fps: int) -> None:
        super().__init__(path, fps)
        self._stride = max(1, round(fps / 25))  # a GIF counts in hundredths of a second
        self._count = 0
        self._images: list[Any] = []

    def _add(self, picture: Array) -> None:
        from PIL import Image

        if self._count % self._stride == 0:
            self._images.append(Image.fromarray(picture).quantize(64))
        self._count += 1

    def close(self) -> None:
        """Write all pictures."""
        first, *others = self._images
        milliseconds = round(1000 * self._stride / self._fps)
        first.save(self._path, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


class Sheet(Film):
    """A PNG with six moments, evenly spread. Of a long film every second picture is kept, then every fourth, ..."""

    def __init__(self, path: Path, fps: int) -> None:
        super().__init__(path, fps)
        self._kept: list[Array] = []
        self._stride, self._count = 1, 0

    def _add(self, picture: Array) -> None:
        if self._count % self._stride == 0:
            self._kept.append(picture)
            if len(self._kept) > 2 * KEPT:
                self._kept, self._stride = self._kept[::2], 2 * self._stride
        self._count += 1

    def hold(self) -> None:
        """One moment is enough."""

    def close(self) -> None:
        """Choose, and write."""
        from PIL import Image

        assert self.last is not None
        kept = self._kept if self._kept[-1] is self.last else [*self._kept, self.last]
        picks = [kept[int(index)] for index in np.linspace(0, len(kept) - 1, min(MOMENTS, len(kept)))]
        height, width = picks[0].shape[:2]
        columns = min(3, len(picks))
        rows = -(-len(picks) // columns)
        sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), DARK)
        for index, picture in enumerate(picks):
            place = index % columns * (width + GAP), index // columns * (height + GAP)
            sheet.paste(Image.fromarray(picture), place)
        sheet.save(self._path, "PNG")


FILMS: dict[str, type[Film]] = {"mp4": Video, "gif": Animation, "png": Sheet}


@contextmanager
def filming(path: Path, kind: str, fps: int, told: Callable[[str], None] | None = None) -> Iterator[Film]:
    """A film that becomes `path`, whole or not at all. Raises CannotRender where that cannot be."""
    with writing(path) as temporary:
        film = FILMS[kind](temporary, fps)
        film.told = told
        yield film
        film.close()


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when all is written. Raises CannotRender where that cannot be."""
    try:
        if not path.name or path.is_dir():
            raise CannotRender(f"{path}: cannot be written: it is a folder")
        temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CannotRender(f"{path}: cannot be written: {error.strerror or error}") from None
