import json
from pathlib import Path

import numpy as np
import pytest
from miniature import (
    CUSTOM_YAML,
    HEIGHT,
    WIDTH,
    cityscapes_values,
    write_camvid,
    write_cityscapes,
    write_coco,
    write_custom,
    write_image,
    write_mapillary,
)

from lpsnet.data.build import LAYOUTS, guess_name, present_splits
from lpsnet.data.cli import main
from lpsnet.data.coco_panoptic import CocoPanoptic


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")


def check(path: Path, *args: str) -> tuple[int, dict]:
    """The exit code and the report of ``lpsnet-data check``, which reads in its own process."""
    report = path.parent / "report.json"
    code = 0
    try:
        main(["check", str(path), "--workers", "0", "--json", str(report), *args])
    except SystemExit as stop:
        code = stop.code
    return code, json.loads(report.read_text())


def test_counts(tmp_path, capsys):
    code, report = check(write_cityscapes(tmp_path / "data"))
    assert (code, report["dataset"], report["faults"], list(report["splits"])) == (0, "cityscapes", 0, ["train", "val"])
    val = report["splits"]["val"]
    values = cityscapes_values()
    assert (val["images"], val["pixels"]) == (2, 2 * HEIGHT * WIDTH)
    assert val["void_pixels"] == 2 * int(np.isin(values, [1, 29001]).sum())
    assert val["crowd_pixels"] == 2 * 200
    assert val["classes"]["car"] == {
        "images": 2,
        "segments": 4,
        "crowds": 0,
        "pixels": 2 * int((values // 1000 == 26).sum()),
    }
    assert val["classes"]["person"] == {"images": 2, "segments": 0, "crowds": 2, "pixels": 400}
    assert val["classes"]["bus"] == {"images": 0, "segments": 0, "crowds": 0, "pixels": 0}
    assert list(val["classes"])[:2] == ["road", "sidewalk"]
    out = capsys.readouterr().out
    assert "cityscapes val: 2 images" in out
    assert "cityscapes: no faults in train, val" in out


def test_worker_processes_count_the_same(tmp_path):
    path = write_cityscapes(tmp_path / "data", ("val",), images=20)
    (path / "leftImg8bit/val/city3/city3_000000_000003_leftImg8bit.png").write_bytes(b"x")
    assert check(path) == check(path, "--workers", "2")


def test_every_fault_is_listed_with_its_file(tmp_path, capsys):
    path = write_cityscapes(tmp_path / "data", ("val",), images=8)
    images, labels = path / "leftImg8bit/val", path / "gtFine/val"

    def label(k: int) -> Path:
        return labels / f"city{k}/city{k}_000000_00000{k}_gtFine_instanceIds.png"

    label(0).unlink()
    (images / "city1/city1_000000_000001_leftImg8bit.png").unlink()
    write_image(label(2), np.full((HEIGHT, 5), 7, np.uint16))
    write_image(label(3), np.full((HEIGHT, WIDTH), 50, np.uint16))
    label(4).write_bytes(label(4).read_bytes()[:150])
    (images / "city5/city5_000000_000005_leftImg8bit.png").write_bytes(b"no image")
    write_image(label(6), np.zeros((HEIGHT, WIDTH), np.uint16))
    code, report = check(path)
    val = report["splits"]["val"]
    assert (code, report["faults"], val["images"]) == (1, 6, 2)
    assert val["empty"] == ["city6_000000_000006"]  # void everywhere, which is no fault
    expected = (
        (label(0), "expected the label map of city0_000000_000000_leftImg8bit.png, got no such file"),
        (label(1), "expected an image that belongs to it, got none"),
        (label(2), "expected the size of its image, [64, 96], got [64, 5]"),
        (label(3), "expected label ids in 0..33, got 50 in the value 50"),
        (label(4), "expected a whole image, got a file that ends too early, after 150 bytes"),
        (images / "city5/city5_000000_000005_leftImg8bit.png", "expected an image, got a file that cannot be decoded"),
    )
    assert val["faults"] == [f"{file}: {message}" for file, message in expected]
    out = capsys.readouterr().out
    assert all(f"fault: {fault}" in out for fault in val["faults"])
    assert "1 images are void everywhere: city6_000000_000006" in out
    assert "cityscapes: 6 faults in val" in out


def test_a_split_without_its_labels_is_a_fault(tmp_path):
    path = write_mapillary(tmp_path / "data")
    (path / "validation/instances").rename(tmp_path / "elsewhere")
    code, report = check(path)
    assert code == 1
    assert [len(split["faults"]) for split in report["splits"].values()] == [0, 1, 0]
    assert "expected a folder of maps of instances" in report["splits"]["val"]["faults"][0]
    assert report["splits"]["test"]["labelled"] is False
    assert report["splits"]["test"]["images"] == 2


def test_a_configuration_of_another_version_is_a_fault_of_each_split(tmp_path):
    path = write_mapillary(tmp_path / "data")
    (path / "config.json").write_text('{"labels": []}')
    code, report = check(path, "--split", "train", "val")
    assert (code, report["faults"]) == (1, 2)
    assert "expected the 66 labels of Mapillary Vistas 1.2, got 0" in report["splits"]["val"]["faults"][0]


def test_a_data_set_of_ones_own(tmp_path, capsys):
    path = write_custom(tmp_path / "data")
    code, report = check(path)
    assert (code, report["dataset"], list(report["splits"])) == (0, "ducks", ["train", "val", "wild"])
    assert report["splits"]["train"]["skipped"] == ["2.jpg"]
    assert report["splits"]["train"]["classes"]["duck"]["crowds"] == 2
    assert "1 images have no annotation and are skipped: 2.jpg" in capsys.readouterr().out


def test_every_fault_of_a_panoptic_json(tmp_path):
    path = write_custom(tmp_path / "data", images=8)
    json_path = path.parent / "val.json"
    data = json.loads(json_path.read_text())
    rows = data["annotations"] = json.loads(json.dumps(data["annotations"]))
    rows[0]["segments_info"][0]["category_id"] = 99
    rows[1]["segments_info"][0]["id"] = 5
    del rows[2]["segments_info"]
    rows[3]["segments_info"].pop()
    rows[4]["segments_info"] = []
    rows[5]["image_id"] = "k0"
    json_path.write_text(json.dumps(data))
    (path.parent / "val/6.png").unlink()
    (path.parent / "images/val/6.jpg").unlink()
    faults: list[Exception] = []
    CocoPanoptic(path.parent / "images/val", json_path, on_fault=faults.append)
    assert len(faults) == 6
    code, report = check(path, "--split", "val")
    val = report["splits"]["val"]
    assert (code, val["images"], val["skipped"]) == (1, 1, ["5.jpg", "8.jpg"])
    for part in (
        "annotations: expected one per image, got two of image k0",
        "0.png: expected a category of the JSON for segment 500, got 99",
        "1.png: expected distinct segment ids in 1..16777215, got 5",
        "no field 'segments_info'",
        f"{path.parent / 'images/val/6.jpg'}: expected a file that",
        f"{path.parent / 'val/6.png'}: expected a file that",
        "3.png: expected segment ids that",
        "4.png: expected segment ids that",
    ):
        assert sum(part in fault for fault in val["faults"]) == 1, part
    assert len(val["faults"]) == 8


def test_splits_of_different_classes(tmp_path):
    path = write_custom(tmp_path / "data")
    data = json.loads((path.parent / "val.json").read_text())
    data["categories"][1]["name"] = "goose"
    (path.parent / "val.json").write_text(json.dumps(data))
    code, report = check(path)
    assert code == 1
    assert (
        "expected the same classes in every split, of which number 1 is 'duck'" in report["splits"]["val"]["faults"][0]
    )


WRITERS = {
    "camvid": write_camvid,
    "cityscapes": write_cityscapes,
    "coco": write_coco,
    "mapillary": write_mapillary,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_tells_the_data_set_and_its_splits(tmp_path, name):
    path = WRITERS[name](tmp_path)
    assert guess_name(path) == name
    splits = present_splits(name, path)
    assert splits == {"coco": ["train", "val", "test-dev"], "cityscapes": ["train", "val"]}.get(
        name, ["train", "val", "test"]
    )


def test_coco(tmp_path):
    path = write_coco(tmp_path / "data")
    (path / "test2017/w.jpg").unlink()
    code, report = check(path)
    assert (code, report["faults"]) == (1, 1)
    assert "w.jpg: expected a file that" in report["splits"]["test-dev"]["faults"][0]
    assert report["splits"]["test-dev"]["labelled"] is False
    assert report["splits"]["val"]["classes"]["car"]["segments"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none"], "none: expected the folder of a data set or a YAML file, got no such path"),
        (["{}"], "expected the layout of one data set (camvid by labels/train or"),
        (["{}", "--dataset", "ade20k"], "dataset: expected one of ['camvid', 'cityscapes', 'coco', 'mapillary'], got"),
        (["{}", "--dataset", "coco"], "expected a split of coco of ['train', 'val', 'test', 'test-dev'], got none"),
        (["{}/a.yaml"], "a.yaml: expected the YAML file of a data set, got no such file"),
        (["{}", "--workers", "-1"], "workers: expected at least 0, got -1"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="1"):
        main(["check", *(a.format(tmp_path) for a in arguments)])
    error = capsys.readouterr().err
    assert error.startswith("lpsnet-data: ")
    assert message in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_an_unknown_split_is_a_fault(tmp_path):
    code, report = check(write_custom(tmp_path / "data", yaml=CUSTOM_YAML), "--split", "val", "dev")
    assert (code, report["splits"]["val"]["faults"]) == (1, [])
    assert "split: expected one of ['train', 'val', 'wild']" in report["splits"]["dev"]["faults"][0]


@pytest.mark.parametrize("name", ["camvid", "coco"])
def test_the_development_data(shared_data, tmp_path, name):
    main(["check", str(shared_data / name), "--split", "val", "--workers", "1", "--json", str(tmp_path / "a.json")])
    val = json.loads((tmp_path / "a.json").read_text())["splits"]["val"]
    assert val["images"] in (100, 101)
    assert val["void_pixels"] + sum(c["pixels"] for c in val["classes"].values()) == val["pixels"]


def test_the_sample_of_the_format(shared_data, tmp_path):
    folder = shared_data / "panopticapi_sample"
    path = tmp_path / "sample.yaml"
    path.write_text(
        f"name: sample\nroot: {folder}\n"
        "splits: {val: {images: input_images, annotations: panoptic_examples.json, panoptic: panoptic_examples}}\n"
    )
    code, report = check(path)
    assert (code, report["splits"]["val"]["images"]) == (0, 2)
    assert sum(c["crowds"] for c in report["splits"]["val"]["classes"].values()) == 3
