import json

import pytest

from lpsnet.evaluation import cli as eval_cli
from lpsnet.training import cli as train_cli

QUICK = [
    "lpsnet_tiny_synthetic",
    *("--model.fpn-channels", "16", "--model.box-channels", "16", "--model.ppm-channels", "8"),
    *("--model.semantic-channels", "16"),
    *("--train.batch-size", "2", "--train.workers", "0", "--train.warmup", "1", "--train.checkpoint-every", "2"),
]


def train(*args: str) -> int | None:
    """The exit code; None where the command just returns."""
    try:
        train_cli.main(args)
    except SystemExit as stop:
        return stop.code
    return None


def test_train_resume_and_evaluate(tmp_path, capsys):
    output = str(tmp_path / "run")
    common = ["--output", output, "--limit", "6", "--no-pretrained"]
    assert train(*common, *QUICK, "--train.iterations", "2") is None
    assert train(*common, "--resume", *QUICK, "--train.iterations", "2") is None  # nothing left to do
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]

    scores = tmp_path / "scores.json"
    checkpoint = str(tmp_path / "run" / "model.safetensors")
    eval_cli.main(["--model", checkpoint, "--limit", "2", "--json", str(scores), "--paste-score", "0.1"])
    assert "stuff" in capsys.readouterr().out
    assert json.loads(scores.read_text())["panoptic"]["images"] == 2


def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert train("--output", str(tmp_path), "--data", str(tmp_path / "none"), "lpsnet_lite0_camvid") == 1
    error = capsys.readouterr().err
    assert error.startswith("lpsnet-train: ")
    assert "none" in error
    assert "Traceback" not in error
    assert train("--output", str(tmp_path), "upsnet") == 2
    with pytest.raises(SystemExit, match="1"):
        eval_cli.main(["--model", str(tmp_path / "none.safetensors")])
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("lpsnet-eval: ")
