import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lpsnet.categories import categories
from lpsnet.coco_format import id_to_rgb
from lpsnet.data.coco_panoptic import CocoPanoptic
from lpsnet.data.sample import TrueSegment

CATEGORIES = [
    {"id": 7, "name": "lake", "isthing": 0},
    {"id": 3, "name": "duck", "isthing": 1, "color": [1, 2, 3]},
]


def dataset() -> dict:
    """One image of 6 x 8: a lake, a duck, a crowd of ducks and void."""
    segments = [
        {"id": 70000, "category_id": 3, "iscrowd": 0},
        {"id": 5, "category_id": 7, "iscrowd": 0},
        {"id": 300, "category_id": 3, "iscrowd": 1},
    ]
    return {
        "images": [{"id": 9, "file_name": "b.jpg"}, {"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": CATEGORIES,
    }


def ids() -> np.ndarray:
    ids = np.full((6, 8), 5, np.int32)
    ids[0], ids[2:4, 2:4], ids[5, 5:] = 0, 70000, 300
    return ids


def write(root: Path, data: dict, ids: np.ndarray) -> CocoPanoptic:
    for folder in ("images", "panoptic"):
        (root / folder).mkdir(exist_ok=True)
    (root / "panoptic.json").write_text(json.dumps(data))
    cv2.imwrite(str(root / "images/a.jpg"), np.zeros((6, 8, 3), np.uint8))
    cv2.imwrite(str(root / "panoptic/a.png"), id_to_rgb(ids)[..., ::-1])
    return CocoPanoptic(root / "images", root / "panoptic.json")


def test_reads_segments_in_the_order_of_the_json(tmp_path):
    data = write(tmp_path, dataset(), ids())
    assert len(data) == 1  # b.jpg has no annotation
    sample = data[0]
    assert sample.name == "a"
    assert sample.segments == (TrueSegment(1), TrueSegment(0), TrueSegment(1, iscrowd=True))
    assert sample.ids.dtype == np.int32
    assert (sample.ids == np.select([ids() == 70000, ids() == 5, ids() == 300], [1, 2, 3])).all()
    assert sample.object_ids([c.isthing for c in data.categories]) == [1]
    assert data[-1].name == "a"
    with pytest.raises(IndexError):
        data[1]


def test_categories_come_from_the_json(tmp_path):
    data = write(tmp_path, dataset(), ids())
    assert [(c.id, c.name, c.isthing) for c in data.categories] == [(7, "lake", False), (3, "duck", True)]
    assert data.categories[1].color == (1, 2, 3)


def test_categories_of_coco_are_the_table(tmp_path):
    data = dataset()
    data["categories"] = [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in categories("coco")[::-1]]
    data["annotations"][0]["segments_info"][1]["category_id"] = 200
    loaded = write(tmp_path, data, ids())
    assert loaded.categories is categories("coco")
    assert [loaded.categories[s.label].id for s in loaded[0].segments] == [3, 200, 3]


def test_image_without_segments_is_void(tmp_path):
    data = dataset()
    data["annotations"][0]["segments_info"] = []
    sample = write(tmp_path, data, np.zeros((6, 8), np.int32))[0]
    assert sample.segments == ()
    assert not sample.ids.any()


def test_segments_of_json_and_png_differ(tmp_path):
    stray = ids()
    stray[5, 0] = 12
    with pytest.raises(ValueError, match=r"a\.png: expected segment ids that .*panoptic\.json lists, got 12"):
        write(tmp_path, dataset(), stray)[0]
    lacking = ids()
    lacking[lacking == 300] = 5
    with pytest.raises(ValueError, match=r"a\.png: expected pixels of every segment .*, got none of 300"):
        write(tmp_path, dataset(), lacking)[0]


def test_png_of_another_size(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: expected the size of its image, \[6, 8\], got \[6, 7\]"):
        write(tmp_path, dataset(), ids()[:, :7])[0]


@pytest.mark.parametrize("file", ["images/a.jpg", "panoptic/a.png", "panoptic.json"])
def test_missing_file(tmp_path, file):
    write(tmp_path, dataset(), ids())
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match=Path(file).name.replace(".", r"\.")):
        CocoPanoptic(tmp_path / "images", tmp_path / "panoptic.json")


def test_missing_folder(tmp_path):
    write(tmp_path, dataset(), ids())
    with pytest.raises(FileNotFoundError, match="nowhere: expected a folder"):
        CocoPanoptic(tmp_path / "nowhere", tmp_path / "panoptic.json")


def unknown_category(data: dict) -> None:
    data["annotations"][0]["segments_info"][0]["category_id"] = 99


def twice(data: dict) -> None:
    data["annotations"][0]["segments_info"][0]["id"] = 5


def void_id(data: dict) -> None:
    data["annotations"][0]["segments_info"][0]["id"] = 0


def second_annotation(data: dict) -> None:
    data["annotations"].append(dict(data["annotations"][0]))


def stray_annotation(data: dict) -> None:
    data["annotations"][0]["image_id"] = 2


def no_categories(data: dict) -> None:
    del data["categories"]


def no_segments(data: dict) -> None:
    del data["annotations"][0]["segments_info"]


def same_category(data: dict) -> None:
    data["categories"] = [CATEGORIES[0], CATEGORIES[0]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unknown_category, r"a\.png: expected a category of the JSON for segment 70000, got 99"),
        (twice, r"a\.png: expected distinct segment ids .*, got 5"),
        (void_id, r"a\.png: expected distinct segment ids in 1\.\.16777215, got 0"),
        (second_annotation, "annotations: expected one per image, got two of image 1"),
        (stray_annotation, "annotations: expected ids of images, got 2"),
        (no_categories, "expected the lists images, annotations and categories, got no list 'categories'"),
        (no_segments, "expected the COCO panoptic format, got no field 'segments_info'"),
        (same_category, r"categories: expected at most 255 distinct ids, got \[7, 7\]"),
    ],
)
def test_bad_json(tmp_path, damage, message):
    data = dataset()
    damage(data)
    with pytest.raises(ValueError, match=rf"panoptic\.json: {message}"):
        write(tmp_path, data, ids())


def test_no_json(tmp_path):
    write(tmp_path, dataset(), ids())
    (tmp_path / "panoptic.json").write_text("{")
    with pytest.raises(ValueError, match=r"panoptic\.json: expected JSON, got"):
        CocoPanoptic(tmp_path / "images", tmp_path / "panoptic.json")


SHARED = Path(__file__).parents[1] / "../shared/data"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the development data in {SHARED}")
def test_areas_of_the_official_annotations():
    folder = SHARED / "coco/annotations"
    data = CocoPanoptic(SHARED / "coco/val2017", folder / "panoptic_val2017.json")
    annotations = {
        Path(a["file_name"]).stem: a
        for a in json.loads((folder / "panoptic_val2017.json").read_text(encoding="utf-8"))["annotations"]
    }
    assert data.categories is categories("coco")
    for index in range(0, len(data), 5):
        sample = data[index]
        areas = np.bincount(sample.ids.ravel(), minlength=len(sample.segments) + 1)[1:].tolist()
        assert areas == [s["area"] for s in annotations[sample.name]["segments_info"]]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the development data in {SHARED}")
def test_reads_the_sample_of_the_format():
    data = CocoPanoptic(
        SHARED / "panopticapi_sample/input_images", SHARED / "panopticapi_sample/panoptic_examples.json"
    )
    found = [(s.name, len(s.segments), sum(x.iscrowd for x in s.segments)) for s in (data[0], data[1])]
    assert found == [("000000142238", 18, 1), ("000000439180", 32, 2)]
