import cv2
import numpy as np
import pytest
from miniature import image

from lpsnet.data.files import list_images, pair, read_rgb


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, image())[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.99, 0.5, 0.1])
def test_a_file_that_ends_too_early(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    data = encoded(suffix)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=rf"a\{suffix}: expected a whole image, got a file that ends too early"):
        read_rgb(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_after_the_end_do_no_harm(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix) + bytes(100))
    assert read_rgb(path).shape == image().shape


def test_the_end_of_a_thumbnail_is_not_that_of_the_image(tmp_path):
    whole = encoded(".jpg")
    thumbnail = cv2.imencode(".jpg", image()[:16, :16])[1].tobytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = whole[:2] + segment + whole[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert np.array_equal(read_rgb(path), cv2.imdecode(np.frombuffer(whole, np.uint8), 1)[..., ::-1])
    path.write_bytes(data[:-30])
    with pytest.raises(ValueError, match="expected a whole image"):
        read_rgb(path)


def test_a_header_of_too_many_pixels(tmp_path):
    data = bytearray(encoded(".png"))
    data[16:24] = (1 << 30).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png: expected an image, got a file that cannot be decoded"):
        read_rgb(tmp_path / "a.png")


def test_images_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.jpeg", "._a.jpeg", "c.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpeg", "b.PNG"]
    with pytest.raises(FileNotFoundError, match="none: expected a folder of images, got no such folder"):
        list_images(tmp_path / "none")


def test_pairs(tmp_path):
    images = [tmp_path / f"{name}.jpg" for name in "abc"]
    labels = [tmp_path / f"{name}.png" for name in "cdb"]
    faults: list[Exception] = []
    assert pair(images, labels, lambda p: p.with_suffix(".png"), faults.append) == [
        (images[1], labels[2]),
        (images[2], labels[0]),
    ]
    assert [str(fault).split(":")[0] for fault in faults] == [str(tmp_path / "a.png"), str(labels[1])]
