"""Every command of docs/datasets.md, on miniature data sets in the layouts that the page shows."""

import re
import shlex
from pathlib import Path

import pytest
from miniature import write_camvid, write_cityscapes, write_coco, write_custom, write_mapillary

from lpsnet.data import cli as data_cli
from lpsnet.evaluation import cli as eval_cli
from lpsnet.training import cli as train_cli

PAGE = (Path(__file__).parents[1] / "docs/datasets.md").read_text(encoding="utf-8")
COMMANDS = {"lpsnet-data": data_cli.main, "lpsnet-train": train_cli.main, "lpsnet-eval": eval_cli.main}
WRITERS = {
    "COCO": write_coco,
    "CITYSCAPES": write_cityscapes,
    "VISTAS": write_mapillary,
    "CAMVID": write_camvid,
    "data": write_custom,
}
SMALL = [
    *("--model.fpn-channels", "16", "--model.box-channels", "16", "--model.ppm-channels", "8"),
    *("--model.semantic-channels", "16", "--input.short-side", "64", "--input.max-side", "96"),
    *("--train.iterations", "1", "--train.batch-size", "1", "--train.workers", "0"),
]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", [pytest.param(b, id=b.split("\n")[0].split("  ")[0]) for b in blocks("sh")])
def test_commands(tmp_path, monkeypatch, block):
    monkeypatch.chdir(tmp_path)
    for name, write in WRITERS.items():
        if name in block or name == "data":
            write(tmp_path / name, **({"splits": ("train", "val", "test")} if write is write_cityscapes else {}))
    (yaml,) = blocks("yaml")
    (tmp_path / "ducks.yaml").write_text(yaml, encoding="utf-8")
    for line in block.splitlines():
        command, *arguments = shlex.split(line, comments=True)
        if command == "lpsnet-train":
            arguments = ["--no-pretrained", *arguments, *SMALL]
        elif command == "lpsnet-data" and "--workers" not in arguments:
            arguments += ["--workers", "0"]
        COMMANDS[command](arguments)


def test_the_page_has_commands():
    assert len(blocks("sh")) >= 6
