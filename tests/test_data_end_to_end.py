"""Each data set through ``lpsnet-train`` and ``lpsnet-eval``."""

import json

import pytest
from miniature import write_cityscapes, write_custom, write_mapillary

from lpsnet.checkpoint import load_checkpoint
from lpsnet.evaluation import cli as eval_cli
from lpsnet.training import cli as train_cli

TINY = [
    *("--model.fpn-channels", "16", "--model.box-channels", "16", "--model.ppm-channels", "8"),
    *("--model.semantic-channels", "16", "--input.short-side", "64", "--input.max-side", "96"),
    *("--train.iterations", "2", "--train.batch-size", "2", "--train.workers", "0", "--train.warmup", "1"),
]


@pytest.mark.parametrize(
    ("name", "write", "classes"),
    [("cityscapes", write_cityscapes, 19), ("mapillary", write_mapillary, 65), ("ducks", write_custom, 3)],
)
def test_train_and_evaluate(tmp_path, capsys, name, write, classes):
    data = write(tmp_path / "data")
    # A YAML file says itself what its data set is called.
    dataset = [] if data.suffix == ".yaml" else ["--dataset", name]
    common = ["--output", str(tmp_path / "run"), "--data", str(data), "--no-pretrained"]
    train_cli.main([*common, "lpsnet_tiny_synthetic", *dataset, *TINY])
    checkpoint = tmp_path / "run" / "model.safetensors"
    recipe, _ = load_checkpoint(checkpoint)
    assert (recipe.dataset, len(recipe.categories)) == (name, classes)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(log) == 2
    assert all(row["giou"] > 0 and row["semantic"] > 0 for row in log)  # there are objects and classes to learn

    scores = tmp_path / "scores.json"
    eval_cli.main(["--model", str(checkpoint), "--data", str(data), "--json", str(scores)])
    panoptic = json.loads(scores.read_text())["panoptic"]
    assert panoptic["images"] == 2
    assert list(panoptic["per_class"]) == [category.name for category in recipe.categories]
    assert name in capsys.readouterr().out


def test_a_split_without_ground_truth_is_refused(tmp_path, capsys):
    data = write_cityscapes(tmp_path / "data", ("test",))
    with pytest.raises(SystemExit, match="1"):
        train_cli.main(
            [
                *("--output", str(tmp_path / "run"), "--data", str(data), "--split", "test"),
                *("lpsnet_tiny_synthetic", "--dataset", "cityscapes"),
            ]
        )
    assert "split: expected one with ground truth, got 'test'" in " ".join(capsys.readouterr().err.split())
