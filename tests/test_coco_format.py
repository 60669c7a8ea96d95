import json
from pathlib import Path

import numpy as np
import pytest

from lpsnet import atomic, coco_format
from lpsnet.categories import categories
from lpsnet.structures import PanopticResult, Segment

SAMPLE = Path(__file__).parents[2] / "shared/data/panopticapi_sample"


def small_result() -> PanopticResult:
    ids = np.array([[1, 1, 0, 3], [2, 2, 2, 3]], np.int32)
    segments = (
        Segment(id=1, label=0, score=0.75, area=2, box=(0, 0, 2, 1)),
        Segment(id=2, label=0, score=0.5, area=3, box=(0, 1, 3, 2)),
        Segment(id=3, label=132, score=1.0, area=2, box=(3, 0, 4, 2)),
    )
    return PanopticResult(ids, segments, categories("coco"))


def test_annotation_has_the_fields_of_the_format():
    made = coco_format.annotation(small_result(), 7, "street.png")
    assert (made["image_id"], made["file_name"]) == (7, "street.png")
    first = {"id": 1, "category_id": 1, "bbox": [0, 0, 2, 1], "area": 2, "iscrowd": 0, "isthing": 1, "score": 0.75}
    assert made["segments_info"][0] == first
    # The data set's own number, which is not the index of the logit.
    assert made["segments_info"][2]["category_id"] == categories("coco")[132].id == 200
    assert made["segments_info"][2]["bbox"] == [3, 0, 1, 2]


def test_what_is_written_can_be_read_back(tmp_path):
    result = small_result()
    coco_format.write_png(tmp_path / "a.png", result.ids)
    annotation = coco_format.annotation(result, 7, "a.png")
    coco_format.write_json(tmp_path / "a.json", [coco_format.image(7, "a.jpg", 2, 4)], [annotation], result.categories)
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["images"] == [{"id": 7, "file_name": "a.jpg", "height": 2, "width": 4}]
    assert document["categories"][0].keys() == {"id", "name", "isthing", "color"}
    ids = coco_format.read_png(tmp_path / "a.png")
    back = coco_format.parse(ids, document["annotations"][0], result.categories)
    assert np.array_equal(back.ids, result.ids)
    assert back.segments == result.segments
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.png"]


def test_ids_of_every_size_survive(tmp_path):
    ids = np.array([[0, 255, 256], [65535, 65536, (1 << 24) - 1]], np.int32)
    assert np.array_equal(coco_format.rgb_to_id(coco_format.id_to_rgb(ids)), ids)
    coco_format.write_png(tmp_path / "a.png", ids)
    assert np.array_equal(coco_format.read_png(tmp_path / "a.png"), ids)


@pytest.mark.parametrize("bad", [-1, 1 << 24])
def test_ids_that_no_colour_has_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"ids: expected numbers in 0\.\.16777215"):
        coco_format.write_png(tmp_path / "a.png", np.array([[bad]], np.int32))
    assert not list(tmp_path.iterdir())


def test_parse_names_what_does_not_fit():
    result = small_result()
    annotation = coco_format.annotation(result, 7, "a.png")
    with pytest.raises(ValueError, match="ids: expected those of segments_info and 0, got \\[9\\]"):
        coco_format.parse(np.full((2, 2), 9, np.int32), annotation, result.categories)
    with pytest.raises(ValueError, match="category_id: expected one of"):
        coco_format.parse(result.ids, annotation, categories("synthetic"))


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_png_that_is_none(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: expected a PNG"):
        coco_format.read_png(tmp_path / "a.png")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"the sample of the panoptic API is not at {SAMPLE}")
def test_the_layout_is_that_of_the_official_sample(tmp_path):
    document = json.loads((SAMPLE / "panoptic_examples.json").read_text())
    assert document["annotations"]
    for official in document["annotations"]:
        png = SAMPLE / "panoptic_examples" / official["file_name"]
        official_ids = coco_format.read_png(png)
        result = coco_format.parse(official_ids, official, categories("coco"))
        # Written anew, each segment keeps its class, and area and box are those that its pixels have.
        coco_format.write_png(tmp_path / png.name, result.ids)
        made = coco_format.annotation(result, official["image_id"], png.name)
        ids = coco_format.read_png(tmp_path / png.name)
        assert set(official) <= set(made)
        for info, wanted in zip(made["segments_info"], official["segments_info"], strict=True):
            assert set(wanted) <= set(info)
            mask = ids == info["id"]
            assert np.array_equal(mask, official_ids == wanted["id"])
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            tight = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            if not wanted["iscrowd"]:
                assert info["bbox"] == wanted["bbox"] == tight
            assert info["area"] == wanted["area"] == mask.sum()
            assert info["category_id"] == wanted["category_id"]
