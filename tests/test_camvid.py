from pathlib import Path

import cv2
import numpy as np
import pytest

from lpsnet.data.camvid import MIN_OBJECT_AREA, UNLABELLED, CamVid

SKY, ROAD, CAR, PEDESTRIAN = 0, 3, 8, 9


def write(root: Path, labels: np.ndarray, name: str = "a", image: np.ndarray | None = None) -> Path:
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True, exist_ok=True)
    image = np.zeros((*labels.shape, 3), np.uint8) if image is None else image
    cv2.imwrite(str(root / "images/val" / f"{name}.jpg"), image)
    cv2.imwrite(str(root / "labels/val" / f"{name}.png"), labels)
    return root


def test_components_of_things_are_objects_and_stuff_is_one_segment(tmp_path):
    labels = np.full((40, 60), UNLABELLED, np.uint8)
    labels[:5], labels[35:] = SKY, SKY  # one class in two parts
    labels[10:20, 0:10] = CAR  # 100 px
    labels[20:30, 10:20] = CAR  # touches it by a corner: 8-connected
    labels[10:20, 40:50] = CAR
    labels[10:20, 50:55] = PEDESTRIAN  # touches the car, but is of another class and below the limit
    sample = CamVid(write(tmp_path, labels), "val")[0]
    assert sorted(s.label for s in sample.segments) == [SKY, CAR, CAR]
    assert sample.ids.dtype == np.int32
    assert np.unique(sample.ids).tolist() == [0, 1, 2, 3]
    assert sample.ids[15, 5] == sample.ids[25, 15] != sample.ids[15, 45]
    assert sample.ids[0, 0] == sample.ids[39, 59] != 0
    assert (sample.ids[10:20, 50:55] == 0).all()
    assert (sample.labels() == np.where((labels == UNLABELLED) | (labels == PEDESTRIAN), 255, labels)).all()


@pytest.mark.parametrize(("area", "objects"), [(MIN_OBJECT_AREA - 1, 0), (MIN_OBJECT_AREA, 1)])
def test_smallest_object(tmp_path, area, objects):
    labels = np.full((20, 120), ROAD, np.uint8)
    labels[5, :area] = CAR
    data = CamVid(write(tmp_path, labels), "val")
    assert len(data[0].object_ids([c.isthing for c in data.categories])) == objects


def test_image_is_rgb_and_order_is_by_name(tmp_path):
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 2] = 255  # BGR
    for name in "ba":
        write(tmp_path, np.zeros((20, 20), np.uint8), name, red)
    data = CamVid(tmp_path, "val")
    assert [data[i].name for i in range(len(data))] == ["a", "b"]
    assert data[0].image[0, 0, 0] > 250
    assert data[0].image[0, 0, 2] < 5


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images.val: expected a folder of CamVid"):
        CamVid(tmp_path, "val")
    write(tmp_path, np.zeros((20, 20), np.uint8))
    (tmp_path / "labels/val/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels.val.a\.png: expected the label map of a\.jpg"):
        CamVid(tmp_path, "val")
    (tmp_path / "images/val/a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"images.val: expected \.jpg or \.png images, got none"):
        CamVid(tmp_path, "val")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((10, 30), np.uint8), r"a\.png: expected the size of its image, \[20, 20\], got \[10, 30\]"),
        (np.full((20, 20), 12, np.uint8), r"a\.png: expected labels in 0\.\.11, got \[12\]"),
        (np.zeros((20, 20, 3), np.uint8), r"a\.png: expected a single-channel 8-bit image, got uint8 \[20, 20, 3\]"),
        (np.zeros((20, 20), np.uint16), r"a\.png: expected a single-channel 8-bit image, got uint16"),
    ],
)
def test_bad_label_map(tmp_path, labels, message):
    data = CamVid(write(tmp_path, labels, image=np.zeros((20, 20, 3), np.uint8)), "val")
    with pytest.raises(ValueError, match=message):
        data[0]


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_unreadable_image(tmp_path, content):
    data = CamVid(write(tmp_path, np.zeros((20, 20), np.uint8)), "val")
    (tmp_path / "images/val/a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg: expected an image, got a file that cannot be decoded"):
        data[0]
