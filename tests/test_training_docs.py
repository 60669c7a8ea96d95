"""The commands of docs/training.md are ones that lpsnet-train takes."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from lpsnet.training.cli import Arguments

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def commands() -> list[list[str]]:
    """The arguments of each command, without those that only show help."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == "torchrun":
                words = words[words.index("lpsnet.training.cli") :]
            elif words[0] != "lpsnet-train":
                pytest.fail(f"expected lpsnet-train or torchrun, got {line}")
            if "--help" not in words:
                found.append(words[1:])
    return found


def test_every_command_parses():
    assert len(commands()) >= 15
    for command in commands():
        assert tyro.cli(Arguments, args=command).recipe.name in command


def test_the_options_in_the_text_exist(capsys):
    with pytest.raises(SystemExit):
        tyro.cli(Arguments, args=["--help"])
    with pytest.raises(SystemExit):
        tyro.cli(Arguments, args=["lpsnet_tiny_synthetic", "--help"])
    known = set(re.findall(r"--[a-z.-]+", capsys.readouterr().out)) | {"--nproc-per-node", "--nnodes", "--help"}
    used = set(re.findall(r"`(--[a-z.-]+)", PAGE.read_text(encoding="utf-8")))
    assert used <= known, used - known
    fields = set(re.findall(r"`((?:train|model|augment)\.(?!safetensors)[a-z_]+)", PAGE.read_text(encoding="utf-8")))
    assert {f"--{field.replace('_', '-')}" for field in fields} <= known
