import json
import zipfile

import cv2
import numpy as np
import pytest
from hotcoco.panoptic import pq_compute

from lpsnet import coco_format
from lpsnet.categories import categories
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.evaluation.evaluate import evaluate_samples
from lpsnet.evaluation.submission import cityscapes_submission, coco_submission
from lpsnet.structures import PanopticResult, Segment

SYNTHETIC, CITYSCAPES = categories("synthetic"), categories("cityscapes")
ROAD, CAR = (next(i for i, c in enumerate(CITYSCAPES) if c.name == name) for name in ("road", "car"))


class Named:
    """Synthetic scenes under other names."""

    def __init__(self, names: list[str]) -> None:
        self._scenes, self._names = SyntheticScenes(len(names), size=(48, 64)), names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        scene = self._scenes[index]
        return Sample(self._names[index], scene.image, scene.ids, scene.segments)


def shifted(sample: Sample) -> tuple[PanopticResult, np.ndarray]:
    """A prediction that is the truth, moved a little."""
    ids = np.roll(sample.ids, 3, 1)
    present = [i for i in range(1, len(sample.segments) + 1) if (ids == i).any()]
    segments = [Segment(i, sample.segments[i - 1].label, 0.5, int((ids == i).sum()), (0, 0, 1, 1)) for i in present]
    table = np.zeros(len(sample.segments) + 1, np.int32)
    table[present] = present
    result = PanopticResult(table[ids], tuple(segments), SYNTHETIC)
    return result, result.labels()


def test_a_coco_submission_scores_as_the_evaluation_does(tmp_path):
    dataset = Named(["000000000139", "000000000285", "000000000632"])
    with coco_submission(tmp_path / "out", "val2017", "lpsnet", SYNTHETIC, archive=True) as submission:
        scores = evaluate_samples(shifted, dataset, SYNTHETIC, [submission])
    name = "panoptic_val2017_lpsnet_results"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [name, f"{name}.json", f"{name}.zip"]
    document = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert [a["image_id"] for a in document["annotations"]] == [139, 285, 632]
    assert [a["file_name"] for a in document["annotations"]] == [f"{dataset[i].name}.png" for i in range(3)]
    for index, annotation in enumerate(document["annotations"]):
        ids = coco_format.read_png(tmp_path / "out" / name / annotation["file_name"])
        result, _ = shifted(dataset[index])
        assert np.array_equal(ids, result.ids)
        assert [s["category_id"] for s in annotation["segments_info"]] == [
            SYNTHETIC[s.label].id for s in result.segments
        ]
    with zipfile.ZipFile(tmp_path / "out" / f"{name}.zip") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(
            [f"{name}.json", *(f"{name}/{a['file_name']}" for a in document["annotations"])]
        )

    write_truth(tmp_path / "truth", dataset)
    found = pq_compute(
        tmp_path / "truth.json", tmp_path / "out" / f"{name}.json", tmp_path / "truth", tmp_path / "out" / name
    )
    assert 100 * found["All"]["pq"] == pytest.approx(scores.panoptic.pq)
    assert 0 < scores.panoptic.pq < 100


def write_truth(folder, dataset) -> None:
    """The samples in COCO's panoptic format."""
    folder.mkdir()
    images, annotations = [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        image_id = int(sample.name)
        coco_format.write_png(folder / f"{sample.name}.png", sample.ids)
        images.append(coco_format.image(image_id, f"{sample.name}.jpg", *sample.ids.shape))
        rows = [
            {
                "id": i,
                "category_id": SYNTHETIC[s.label].id,
                "iscrowd": 0,
                "area": int((sample.ids == i).sum()),
                "bbox": [0, 0, 1, 1],
            }
            for i, s in enumerate(sample.segments, 1)
            if (sample.ids == i).any()
        ]
        annotations.append({"image_id": image_id, "file_name": f"{sample.name}.png", "segments_info": rows})
    coco_format.write_json(folder.with_suffix(".json"), images, annotations, SYNTHETIC)


class Streets:
    """Images of Cityscapes without a truth."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._names[index], np.zeros((20, 40, 3), np.uint8), np.zeros((20, 40), np.int32), ())


def street(sample: Sample) -> tuple[PanopticResult, np.ndarray]:
    ids = np.zeros(sample.ids.shape, np.int32)
    ids[10:], ids[12:16, 4:9] = 2, 1
    segments = (Segment(1, CAR, 0.75, 20, (4, 12, 9, 16)), Segment(2, ROAD, 1.0, 380, (0, 10, 40, 20)))
    labels = np.full(ids.shape, ROAD, np.uint8)
    labels[ids == 1] = CAR
    return PanopticResult(ids, segments, CITYSCAPES), labels


def test_a_cityscapes_submission_without_a_truth(tmp_path):
    names = ["berlin_000000_000019_leftImg8bit", "munich_000397_000019_leftImg8bit"]
    with cityscapes_submission(tmp_path / "out", "test", CITYSCAPES, archive=True) as submission:
        scores = evaluate_samples(street, Streets(names), CITYSCAPES, [submission])
    assert np.isnan([scores.panoptic.pq, scores.semantic.miou, scores.box.ap, scores.mask.ap]).all()
    out = tmp_path / "out"
    document = json.loads((out / "panoptic/cityscapes_panoptic_test.json").read_text())
    assert [a["image_id"] for a in document["annotations"]] == ["berlin_000000_000019", "munich_000397_000019"]
    assert [s["category_id"] for s in document["annotations"][0]["segments_info"]] == [26, 7]
    png = out / "panoptic/cityscapes_panoptic_test" / document["annotations"][0]["file_name"]
    assert np.array_equal(coco_format.read_png(png), street(Streets(names)[0])[0].ids)

    assert sorted(p.name for p in (out / "semantic").iterdir()) == [
        "berlin_000000_000019_labelIds.png",
        "munich_000397_000019_labelIds.png",
    ]
    labels = cv2.imread(str(out / "semantic/berlin_000000_000019_labelIds.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (20, 40)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {7, 26}
    with zipfile.ZipFile(out / "panoptic.zip") as archive:
        assert "cityscapes_panoptic_test.json" in archive.namelist()
        assert len(archive.namelist()) == 3
    with zipfile.ZipFile(out / "semantic.zip") as archive:
        assert len(archive.namelist()) == 2


def test_an_empty_data_set_gives_valid_files(tmp_path):
    with coco_submission(tmp_path / "out", "test2017", "x", SYNTHETIC) as submission:
        evaluate_samples(shifted, [], SYNTHETIC, [submission])
    document = json.loads((tmp_path / "out/panoptic_test2017_x_results.json").read_text())
    assert document["annotations"] == []
    assert len(document["categories"]) == len(SYNTHETIC)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["street"], "expected a name of Cityscapes such as .*, got street"),
        (["bonn_000000_000019", "bonn_000000_000019_leftImg8bit"], "names that differ, got bonn_000000_000019"),
    ],
)
def test_a_submission_that_fails_leaves_nothing(tmp_path, names, message):
    with (
        pytest.raises(ValueError, match=message),
        cityscapes_submission(tmp_path / "out", "val", CITYSCAPES) as submission,
    ):
        evaluate_samples(street, Streets(names), CITYSCAPES, [submission])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with (
        pytest.raises(FileExistsError, match="expected a new or an empty folder"),
        coco_submission(tmp_path, "val2017", "x", SYNTHETIC),
    ):
        raise AssertionError
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_names_that_spell_no_number_are_the_ids(tmp_path):
    with coco_submission(tmp_path / "out", "val", "x", SYNTHETIC) as submission:
        evaluate_samples(shifted, Named(["0016E5_07959"]), SYNTHETIC, [submission])
    document = json.loads((tmp_path / "out/panoptic_val_x_results.json").read_text())
    assert document["annotations"][0]["image_id"] == "0016E5_07959"


def test_a_crowd_of_the_truth_is_no_part_of_a_submission(tmp_path):
    """What is submitted is the prediction alone."""
    sample = Sample(
        "7", np.zeros((20, 40, 3), np.uint8), np.ones((20, 40), np.int32), (TrueSegment(CAR, iscrowd=True),)
    )
    with coco_submission(tmp_path / "out", "val", "x", CITYSCAPES) as submission:
        evaluate_samples(street, [sample], CITYSCAPES, [submission])
    document = json.loads((tmp_path / "out/panoptic_val_x_results.json").read_text())
    assert [s["iscrowd"] for s in document["annotations"][0]["segments_info"]] == [0, 0]
