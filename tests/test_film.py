"""Pictures with captions: whole captions at every width, and files that grow while an episode is played."""

import numpy as np
import pytest
from PIL import Image

from rltrain.pictures import film as films
from rltrain.pictures.film import CannotRender, annotate, filming, writing
from rltrain.pictures.recording import _caption

SHORT = "step 12   return 3"
LONG = "step 1234   action -0.12 0.50 0.99 -1.00 0.25 0.31 …   return -1203.25   Q 0.12 0.45 -1.23 0.45 0.55 0.66 …"


def frame(height, width, shade=0):
    return np.full((height, width, 3), shade, np.uint8)


@pytest.mark.parametrize(("size", "expected"), [((160, 80), (480, 320)), ((630, 480), (630, 480)), ((400, 600), (400, 600)),
                                                ((7, 5), (448, 320)), ((1000, 33), (1000, 320)), ((399, 599), (400, 600))])  # fmt: skip
@pytest.mark.parametrize("caption", [SHORT, LONG])
def test_every_caption_is_whole_whatever_the_picture_and_all_pictures_are_of_one_size(size, expected, caption):
    picture = annotate(frame(*size, shade=200), caption)
    strip = 28 if expected[1] >= 560 else 46
    assert picture.shape == (expected[0] + strip, expected[1], 3)
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    ink = (picture[expected[0] :].max(2) > 100).any(0)
    assert ink.any()
    assert not ink[: films.MARGIN - 1].any()
    assert not ink[-films.MARGIN + 1 :].any()
    lines, font = films._fitted(caption, expected[1] - 12, 1 if strip == 28 else 2)
    assert films.SEPARATOR.join(lines) == caption
    assert max(map(font.getlength, lines)) <= expected[1] - 12


def test_a_caption_that_fits_nowhere_is_cut_with_a_sign():
    lines, font = films._fitted(LONG * 3, 308, 2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert font.getlength(lines[1]) <= 308


def test_a_narrow_picture_is_enlarged_pixel_by_pixel_in_the_middle():
    board = np.zeros((10, 20, 3), np.uint8)
    board[2, 3] = 255
    picture = annotate(board, SHORT)
    white = np.argwhere((picture[:160] == 255).all(2))
    assert (white.min(0).tolist(), white.max(0).tolist()) == ([32, 48], [47, 63])


def test_a_sheet_shows_six_moments_from_the_first_to_the_last_of_a_film_of_any_length(tmp_path, monkeypatch):
    monkeypatch.setattr(films, "KEPT", 10)
    for length in (3, 6, 19, 1_000):
        with filming(tmp_path / "sheet.png", "png", 1) as film:
            for step in range(length):
                film.show(frame(20, 320, shade=250 * step // (length - 1)), SHORT)
                assert len(film._kept) <= 21
            film.hold()
        sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
        down, across = 66 + films.GAP, 320 + films.GAP
        rows = (len(sheet) + films.GAP) // down
        shades = [int(sheet[row * down + 10, column * across + 5, 0]) for row in range(rows) for column in range(3)]
        assert shades == sorted(shades)
        assert (shades[0], shades[-1]) == (0, 250)
        if length > 6:
            assert np.ptp(np.diff(shades)) < 35


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_a_film_has_every_picture_and_holds_the_last(tmp_path, kind):
    path = tmp_path / f"film.{kind}"
    with filming(path, kind, 10) as film:
        for step in range(5):
            film.show(frame(40, 320, 50 * step), SHORT)
        film.hold()
    if kind == "gif":
        with Image.open(path) as image:
            image.seek(image.n_frames - 1)
            assert image.convert("RGB").getpixel((5, 5)) == (200, 200, 200)
        return
    import av

    with av.open(str(path)) as container:
        shades = [int(each.to_ndarray(format="rgb24")[5, 5, 0]) for each in container.decode(video=0)]
    assert len(shades) == 5 + 7
    np.testing.assert_allclose(shades, [0, 50, 100, 150] + [200] * 8, atol=6)


def test_a_film_that_fails_leaves_nothing(tmp_path):
    def fail(path):
        with filming(path, "gif", 10) as film:
            film.show(frame(10, 10), SHORT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "film.gif")
    with pytest.raises(CannotRender, match="it is a folder"):
        fail(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_caption_names_actions_of_any_shape():
    action = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert "action 0.00 1.00 2.00 3.00" in _caption(1, action, None, 0.0, {})


def test_a_caption_tells_the_value_of_a_state_from_those_of_actions():
    assert _caption(1, 0, np.array([-0.27]), 0.0, {}).endswith("   V -0.27")
    assert _caption(1, 0, np.array([-0.27, 1]), 0.0, {}).endswith("   Q -0.27 1.00")


def test_a_picture_that_cannot_be_completed_leaves_the_old_one(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr("rltrain.pictures.film.os.replace", full)
    with pytest.raises(CannotRender, match="no space left"), writing(path) as temporary:
        temporary.write_bytes(b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.png", b"old")]


def test_the_caption_of_every_frame_is_told(tmp_path):
    heard = []
    with filming(tmp_path / "film.gif", "gif", 10, heard.append) as film:
        for step in range(3):
            film.show(np.zeros((40, 40, 3), np.uint8), f"step {step}")
        film.hold()
    assert heard == ["step 0", "step 1", "step 2"]
