import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from miniature import HEIGHT, WIDTH, write_cityscapes

from lpsnet.checkpoint import save_checkpoint
from lpsnet.evaluation import cli
from lpsnet.models.lpsnet import LPSNet


def evaluate(*args: str) -> int | None:
    """The exit code; None where the command just returns."""
    try:
        cli.main(args)
    except SystemExit as stop:
        return stop.code
    return None


def test_everything_at_once(tmp_path, capsys, monkeypatch, tiny_checkpoint):
    monkeypatch.setenv("COLUMNS", "200")
    code = evaluate(
        *("--model", str(tiny_checkpoint), "--limit", "2", "--json", str(tmp_path / "scores.json")),
        *("--scales", "1", "1.5", "--flip", "--topk", "30", "--paste-score", "0.1"),
        *("--confusion", str(tmp_path / "confusion.png"), "--worst", "1", str(tmp_path / "worst")),
        *("--coco-submission", str(tmp_path / "coco"), "--zip"),
    )
    assert code is None
    output = capsys.readouterr()
    for word in ("AP box", "AP mask", "IoU", "things", "stuff", "AP small", "synthetic val, 2 images"):
        assert word in output.out
    assert output.err == ""  # no progress bar where nobody watches

    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"settings", "confusion", "panoptic", "semantic", "box", "mask"}
    settings = scores["settings"]
    assert (settings["scales"], settings["flip"], settings["oracle"]) == ([1, 1.5], True, None)
    assert settings["postprocess"]["topk"] == 30
    assert scores["panoptic"]["images"] == 2
    assert {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "per_class"} == set(scores["box"])
    assert set(scores["panoptic"]["per_class"]) == set(scores["semantic"]["per_class"])
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None
    assert len(json.loads((tmp_path / "worst/worst.json").read_text())) == 1
    name = "panoptic_val_lpsnet_tiny_synthetic_results"
    assert len(list((tmp_path / "coco" / name).iterdir())) == 2
    assert (tmp_path / "coco" / f"{name}.zip").is_file()


@pytest.mark.parametrize("oracle", ["semantic", "boxes"])
def test_oracles(tmp_path, tiny_checkpoint, oracle):
    path = tmp_path / "scores.json"
    common = ("--model", str(tiny_checkpoint), "--limit", "2", "--json", str(path), "--stuff-area-limit", "0")
    assert evaluate(*common) is None
    plain = json.loads(path.read_text())
    assert evaluate(*common, "--oracle", oracle) is None
    told = json.loads(path.read_text())
    assert told["settings"]["oracle"] == oracle
    # The network is random: only true labels give it stuff, and true boxes find hardly a pixel of their class.
    assert (told["panoptic"]["pq_stuff"] == 100) == (oracle == "semantic")
    assert told["semantic"] == plain["semantic"]
    assert told["box"] == plain["box"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--scales", "1", "1"), "scales: expected distinct numbers above 0, got"),
        (("--zip",), "zip: expected a submission to put into an archive, got none"),
        (("--worst", "0", "{tmp}/worst"), "worst: expected a count of at least 1, got 0"),
        (("--coco-submission", "{tmp}"), "expected a new or an empty folder"),
        (("--limit", "1", "--cityscapes-submission", "{tmp}/city"), "expected a name of Cityscapes"),
        (
            ("--limit", "1", "--confusion", "{tmp}/no/folder.png"),
            "{tmp}/no/folder.png: expected a file in a folder that exists",
        ),
        (("--data", "{tmp}"), "root: expected None for synthetic"),
        (("--split", "trainval"), "split: expected one of"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, tiny_checkpoint, args, message):
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "mine.txt").write_text("mine")
    given = [a.replace("{tmp}", str(tmp_path)) for a in args]
    assert evaluate("--model", str(tiny_checkpoint), *given) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("lpsnet-eval: ")
    assert message.replace("{tmp}", str(tmp_path)) in error
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_split_without_a_truth(tmp_path, capsys, tiny_recipe):
    recipe = dataclasses.replace(tiny_recipe, name="tiny_cityscapes", dataset="cityscapes")
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny.safetensors", LPSNet(recipe).state_dict(), recipe)
    data, city = write_cityscapes(tmp_path / "data", ("test",)), tmp_path / "city"
    args = ["--model", str(tmp_path / "tiny.safetensors"), "--data", str(data), "--split", "test"]
    args += ["--cityscapes-submission", str(city)]
    assert evaluate(*args, "--zip", "--json", str(tmp_path / "scores.json")) is None
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["panoptic"]["pq"], scores["semantic"]["miou"], scores["box"]["ap"]) == (None, None, None)
    assert sorted(p.name for p in city.iterdir()) == ["panoptic", "panoptic.zip", "semantic", "semantic.zip"]
    labels = cv2.imread(str(city / "semantic" / "city0_000000_000000_labelIds.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (HEIGHT, WIDTH)
    assert set(np.unique(labels)) <= {c.id for c in recipe.categories}
    assert "no truth" in capsys.readouterr().out
