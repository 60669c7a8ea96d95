import numpy as np
import pytest
from miniature import HEIGHT, WIDTH, cityscapes_values, image, write_cityscapes, write_image

from lpsnet.categories import categories
from lpsnet.data.build import build_dataset
from lpsnet.data.cityscapes import Cityscapes

LABEL = "gtFine/val/city0/city0_000000_000000_gtFine_instanceIds.png"
IMAGE = "leftImg8bit/val/city0/city0_000000_000000_leftImg8bit.png"


def index_of(name: str) -> int:
    return [c.name for c in categories("cityscapes")].index(name)


def test_classes_are_those_of_the_benchmark_in_the_order_of_trainid():
    table = categories("cityscapes")
    assert [c.id for c in table] == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert [c.name for c in table if c.isthing] == [
        *("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    ]


def test_segments_are_those_of_the_official_conversion(tmp_path):
    data = Cityscapes(write_cityscapes(tmp_path), "val")
    assert len(data) == 2
    sample = data[0]
    assert sample.name == "city0_000000_000000"
    assert np.array_equal(sample.image, image(0))
    values = cityscapes_values()
    found = {}
    for key, segment in enumerate(sample.segments, 1):
        value = np.unique(values[sample.ids == key])
        assert len(value) == 1
        found[int(value[0])] = (data.categories[segment.label].name, segment.iscrowd)
        assert np.array_equal(sample.ids == key, values == value[0])
    assert found == {
        7: ("road", False),
        23: ("sky", False),
        24: ("person", True),
        26000: ("car", False),
        26001: ("car", False),
    }
    assert np.array_equal(sample.ids == 0, np.isin(values, [1, 29001]))
    assert (sample.labels()[30:40, 60:80] == index_of("person")).all()  # a crowd has its class
    assert len(sample.object_ids([c.isthing for c in data.categories])) == 2


def test_numbers_of_a_stuff_class_are_one_segment(tmp_path):
    values = np.full((HEIGHT, WIDTH), 7, np.uint16)
    values[:9], values[9:12] = 7000, 7001
    write_image(write_cityscapes(tmp_path) / LABEL, values)
    sample = Cityscapes(tmp_path, "val")[0]
    assert len(sample.segments) == 1
    assert (sample.ids == 1).all()


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    write_cityscapes(tmp_path)
    for name in (IMAGE, LABEL):
        path = tmp_path / name
        path.with_name(f"._{path.name}").write_bytes(b"")
    (tmp_path / LABEL.replace("instanceIds.png", "polygons.json")).write_text("{}")
    assert len(Cityscapes(tmp_path, "val")) == 2


def test_the_test_split_has_images_only(tmp_path):
    write_cityscapes(tmp_path, ("test",))
    with pytest.raises(ValueError, match="split: expected one with ground truth, got 'test', which has images only"):
        build_dataset("cityscapes", tmp_path, "test")
    data = build_dataset("cityscapes", tmp_path, "test", need_labels=False)
    assert [data[i].name for i in range(len(data))] == ["city0_000000_000000", "city1_000000_000001"]
    assert data[0].segments == ()
    assert not data[0].ids.any()
    assert data.categories == categories("cityscapes")


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("leftImg8bit", r"leftImg8bit.val: expected a folder of images of Cityscapes' val split, got no such folder"),
        ("gtFine", r"gtFine.val: expected a folder of fine annotations of Cityscapes' val split, got no such folder"),
        (IMAGE, r"city0_000000_000000_gtFine_instanceIds\.png: expected an image that belongs to it, got none"),
        (LABEL, r"_gtFine_instanceIds\.png: expected the label map of city0_000000_000000_leftImg8bit\.png"),
    ],
)
def test_missing(tmp_path, remove, message):
    path = write_cityscapes(tmp_path) / remove
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=message):
        Cityscapes(tmp_path, "val")


def test_no_images(tmp_path):
    (tmp_path / "leftImg8bit/val/city0").mkdir(parents=True)
    (tmp_path / "gtFine/val").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"val: expected <city>/\*_leftImg8bit\.png, got none"):
        Cityscapes(tmp_path, "val")


def test_every_fault_is_reported_and_the_rest_is_read(tmp_path):
    write_cityscapes(tmp_path, images=4)
    (tmp_path / IMAGE).unlink()
    (tmp_path / LABEL.replace("city0", "city1").replace("000000_gt", "000001_gt")).unlink()
    faults: list[Exception] = []
    data = Cityscapes(tmp_path, "val", faults.append)
    assert len(data) == len(faults) == 2
    assert data[0].name == "city2_000000_000002"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((HEIGHT, 7), 7, np.uint16), r"expected the size of its image, \[64, 96\], got \[64, 7\]"),
        (np.full((HEIGHT, WIDTH), 34, np.uint16), r"expected label ids in 0\.\.33, got 34 in the value 34"),
        (np.full((HEIGHT, WIDTH), 65001, np.uint16), r"expected label ids in 0\.\.33, got 65 in the value 65001"),
        (np.full((HEIGHT, WIDTH), 7, np.uint8), r"expected a single-channel 16-bit image, got uint8 \[64, 96\]"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), r"expected a single-channel 16-bit image, got uint8 \[64, 96, 3\]"),
    ],
)
def test_bad_map(tmp_path, values, message):
    write_image(write_cityscapes(tmp_path) / LABEL, values)
    with pytest.raises(ValueError, match=rf"instanceIds\.png: {message}"):
        Cityscapes(tmp_path, "val")[0]


@pytest.mark.parametrize("name", [IMAGE, LABEL])
@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (0, "expected an image, got a file that cannot be decoded"),
        (200, "expected a whole image, got a file that ends"),
    ],
)
def test_unreadable_file(tmp_path, name, keep, message):
    path = write_cityscapes(tmp_path) / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"{path.name}: {message}"):
        Cityscapes(tmp_path, "val")[0]
