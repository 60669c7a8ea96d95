import json

import cv2
import numpy as np
import pytest

from lpsnet.data.build import build_dataset


def test_synthetic_splits_differ():
    first = {split: build_dataset("synthetic", None, split)[0] for split in ("train", "val", "test")}
    assert len({sample.name for sample in first.values()}) == 3
    assert not np.array_equal(first["train"].image, first["val"].image)


def test_camvid(tmp_path):
    for kind, name, shape in (("images", "a.jpg", (20, 20, 3)), ("labels", "a.png", (20, 20))):
        (tmp_path / kind / "test").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / kind / "test" / name), np.zeros(shape, np.uint8))
    assert len(build_dataset("camvid", tmp_path, "test")) == 1


def test_coco_must_have_the_classes_of_coco(tmp_path):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations/panoptic_val2017").mkdir(parents=True)
    path = tmp_path / "annotations/panoptic_val2017.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "x", "isthing": 0}]}))
    with pytest.raises(ValueError, match=r"panoptic_val2017\.json: expected the 133 classes of COCO panoptic"):
        build_dataset("coco", tmp_path, "val")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("cats", None, "val"),
            r"name: expected one of \['camvid', 'cityscapes', 'coco', 'mapillary', 'synthetic'\], or a YAML .* 'cats'",
        ),
        (("coco", None, "dev"), r"split: expected one of \['train', 'val', 'test', 'test-dev'\] of coco, got 'dev'"),
        (("synthetic", None, "dev"), r"split: expected one of \['train', 'val', 'test'\] of synthetic, got 'dev'"),
        (("camvid", None, "val"), "root: expected the folder of camvid, got None"),
        (("synthetic", "somewhere", "val"), "root: expected None for synthetic"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_dataset(*arguments)


def test_missing_root(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: expected the folder of coco"):
        build_dataset("coco", tmp_path / "nowhere", "val")
