import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from lpsnet.engine.images import ImageError, find_images, read_image


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """uint8[30, 40, 3], smooth, without any symmetry."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(coarse, (40, 30), interpolation=cv2.INTER_LINEAR)


def save(path, picture: np.ndarray, mode: str = "RGB", **options):
    Image.fromarray(picture).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_lossless_formats_give_their_pixels(tmp_path, picture, suffix):
    assert np.array_equal(read_image(save(tmp_path / f"a{suffix}", picture)), picture)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path, picture, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".jpg": {"quality": 95}, ".webp": {"lossless": True}}.get(suffix, {})
    path = save(tmp_path / f"a{suffix}", picture, exif=exif, **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    got = read_image(path)
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= 4


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", ".png"), ("L", ".jpg"), ("1", ".png"), ("LA", ".png"), ("P", ".png"), ("CMYK", ".jpg"), ("CMYK", ".tiff")],
)
def test_other_colour_modes_become_rgb(tmp_path, picture, mode, suffix):
    options = {"quality": 98} if suffix == ".jpg" else {}
    path = save(tmp_path / f"a{suffix}", picture, mode, **options)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    got = read_image(path)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_alpha_is_dropped(tmp_path, picture, alpha):
    rgba = np.dstack([picture, np.full(picture.shape[:2], alpha, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_scaled_to_8(tmp_path, picture, suffix, channels):
    deep = picture[..., ::-1].astype(np.uint16) * 257
    if channels == 1:
        deep = deep[..., 0]
    elif channels == 4:
        deep = np.dstack([deep, np.full(deep.shape[:2], 40000, np.uint16)])
    _, data = cv2.imencode(suffix, deep)
    (tmp_path / f"a{suffix}").write_bytes(data.tobytes())
    expected = np.repeat(picture[..., 2:], 3, 2) if channels == 1 else picture
    assert np.array_equal(read_image(tmp_path / f"a{suffix}"), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (6000, 8000)])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_every_size(tmp_path, size, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(cv2.imencode(suffix, np.full((*size, 3), 90, np.uint8))[1].tobytes())
    image = read_image(path)
    assert image.shape == (*size, 3)
    assert image[-1, -1].tolist() == [90, 90, 90]


def test_the_suffix_does_not_decide(tmp_path, picture):
    path = save(tmp_path / "a.png", picture)
    assert np.array_equal(read_image(path.rename(tmp_path / "photograph")), picture)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.95, 1.0])
def test_a_truncated_jpeg_is_an_error(tmp_path, progressive, share):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    thumbnail = io.BytesIO()
    Image.fromarray(noise[:60, :80]).save(thumbnail, "JPEG")  # its end-of-image marker must not count
    stream = io.BytesIO()
    exif = b"Exif\x00\x00" + thumbnail.getvalue()
    Image.fromarray(noise).save(stream, "JPEG", progressive=progressive, exif=exif)
    data = stream.getvalue()
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == (300, 400, 3)
    path.write_bytes(data[: min(int(len(data) * share) + 4, len(data) - 1)])
    with pytest.raises(
        ImageError, match=r"a\.jpg: expected a whole image, got a truncated or damaged file of \d+ byte"
    ):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_behind_the_image_do_no_harm(tmp_path, picture, suffix):
    path = save(tmp_path / f"a{suffix}", picture)
    whole = read_image(path)
    path.write_bytes(path.read_bytes() + b"trailer of a camera")
    assert np.array_equal(read_image(path), whole)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".gif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_other_truncated_files_are_errors(tmp_path, picture, suffix, share):
    path = save(tmp_path / f"a{suffix}", picture)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share) + 1])
    with pytest.raises(ImageError, match=r"a whole image|an image that OpenCV can decode"):
        read_image(path)


def test_a_damaged_png_is_an_error_without_a_word_of_libpng(tmp_path, picture, capfd):
    path = save(tmp_path / "a.png", picture)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("a letter, renamed")
    (tmp_path / "empty.png").touch()
    for name, reason in {
        "text.jpg": "expected an image that OpenCV can decode",
        "empty.png": "expected an image, got an empty file",
        "missing.png": "no such file or directory",
        ".": "is a directory",
    }.items():
        with pytest.raises(ImageError, match=reason) as error:
            read_image(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path, picture):
    path = save(tmp_path / "a.png", picture)
    path.chmod(0)
    with pytest.raises(ImageError, match="permission denied"):
        read_image(path)


@pytest.fixture
def folder(tmp_path, picture):
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.png", "sub/deep/d.jpeg", "empty/notes.txt", "odd[1].png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["."], ["a.JPG", "b.png", "odd[1].png"]),  # not those of subfolders
        (["b.png", "."], ["b.png", "a.JPG", "odd[1].png"]),  # each once
        (["notes.txt"], ["notes.txt"]),  # a named file is taken as it is
        (["*.png"], ["b.png", "odd[1].png"]),
        (["*"], ["a.JPG", "b.png", "odd[1].png"]),
        (["odd[1].png"], ["odd[1].png"]),  # a file, although it looks like a pattern
        (["sub/**/*"], ["sub/c.png", "sub/deep/d.jpeg"]),
        ([], []),
    ],
)
def test_find_images(folder, inputs, expected):
    assert find_images([str(folder / i) for i in inputs]) == [folder / e for e in expected]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing.png", "no such file or folder"),
        ("empty", "expected a folder with images, got none"),
        ("*.webp", "expected a pattern that matches images, got no match"),
        ("*.txt", "expected a pattern that matches images, got no match"),
    ],
)
def test_find_images_names_an_input_without_images(folder, name, reason):
    with pytest.raises(ImageError, match=reason) as error:
        find_images([str(folder / name)])
    assert str(error.value).startswith(str(folder / name))
