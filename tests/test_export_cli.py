"""lpsnet-export: what it writes, what it proves, and what it says of a user's mistakes."""

import json
import subprocess
import sys

import cv2
import onnx
import pytest

import lpsnet.engine
from lpsnet.artifact import ArtifactInfo
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.export import cli


@pytest.fixture
def export(tiny_checkpoint, tmp_path, capsys):
    """Runs the command; gives the exit code, the output and the errors."""

    def run(*args: object, model: object = tiny_checkpoint) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(model), "--limit", "4", *map(str, args)])
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return run


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), SyntheticScenes(3)[i].image[..., ::-1])
    return folder


def test_a_panoptic_file_and_its_report(export, tiny_recipe, tmp_path):
    code, text, errors = export("--output", tmp_path / "m.onnx")
    assert code == 0, errors
    assert "proven" in text
    report = json.loads((tmp_path / "m.onnx.json").read_text())
    assert report["artifact"] == str(tmp_path / "m.onnx")
    assert report["images"] == 4
    assert report["broken"] == []
    assert report["agreement"] > 0.99
    model = onnx.load(tmp_path / "m.onnx")
    info = ArtifactInfo.from_metadata({p.key: p.value for p in model.metadata_props})
    assert info.recipe == tiny_recipe
    assert (info.profile, info.precision) == ("panoptic", "fp32")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    assert lpsnet.engine.load(tmp_path / "m.onnx").predict(SyntheticScenes(1)[0].image).ids.shape == (128, 192)


def test_what_breaks_a_bound_is_kept_aside(export, tmp_path, scenes):
    (tmp_path / "m.onnx").write_bytes(b"of yesterday")
    arguments = ("--output", tmp_path / "m.onnx", "--profile", "dense", "--images", scenes)
    code, text, errors = export(*arguments, "--relative-error", "1e-12", "--report", tmp_path / "r.json")
    assert code == 1
    assert "relative error of at most 1e-12" in errors
    assert "rejected" in text
    assert (tmp_path / "m.onnx").read_bytes() == b"of yesterday"
    assert onnx.load(tmp_path / "m.onnx.rejected").graph.node
    assert json.loads((tmp_path / "r.json").read_text())["broken"]


def test_int8(export, tmp_path, scenes):
    arguments = ("--output", tmp_path / "m.onnx", "--profile", "dense", "--precision", "int8", "--images", scenes)
    code, text, errors = export(*arguments, "--agreement", "0")
    assert code == 0, errors
    assert "fp32" in text  # its speed is told beside that of float
    model = onnx.load(tmp_path / "m.onnx")
    made_by = {name: node for node in model.graph.node for name in node.output}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    quantized = [n for n in convolutions if n.input[1] in made_by and made_by[n.input[1]].op_type == "DequantizeLinear"]
    assert len(quantized) > len(convolutions) / 2
    outputs = [n for n in convolutions if "box_head.output" in n.input[1]]
    assert outputs
    assert all(n not in quantized for n in outputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "{tmp}/nowhere/m.onnx"], "expected a file in a folder that exists"),
        (["--precision", "int8", "--output", "{tmp}/m.onnx"], "calibration: expected images like those it will see"),
        (["--images", "{tmp}/none.png", "--output", "{tmp}/m.onnx"], "no such file or folder"),
        (["--data", "{tmp}/no-data", "--output", "{tmp}/m.onnx"], "no-data"),
        (["--device", "tpu", "--output", "{tmp}/m.onnx"], "device: expected"),
    ],
)
def test_mistakes(export, tmp_path, arguments, message):
    code, _, errors = export(*(a.format(tmp=tmp_path) for a in arguments))
    assert code == 1
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "m.onnx").exists()
    assert list(tmp_path.glob(".*")) == []


def test_a_file_that_is_no_checkpoint(export, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    code, _, errors = export(model=tmp_path / "a.safetensors")
    assert code == 1
    assert "damaged or no safetensors file" in errors


def test_as_a_process(tmp_path):
    command = [sys.executable, "-m", "lpsnet.export.cli", "no-such-model", "--output", str(tmp_path / "m.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "model: expected a file or one of" in done.stderr
    assert "Traceback" not in done.stderr
