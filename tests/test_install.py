"""An install without extras, into an environment of its own, from a copy of the sources."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns("build", "out", "runs", "dist", "tests", "*.egg-info", "*.so", "__pycache__", ".*")
PROBE = """
import importlib.util, json
print(json.dumps([name for name in ("torch", "onnx", "safetensors", "lpsnet") if importlib.util.find_spec(name)]))
"""


def run(*command: object, cwd: Path) -> str:
    # Nothing of the environment that the tests run in: no path of Python, and no library named from outside.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LPSNET_", "VIRTUAL_ENV"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_model_runs_without_torch(tmp_path):
    """numpy, OpenCV, ONNX Runtime, and what the command line needs: `lpsnet-predict` segments a photograph."""
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", source / "constraints.txt", source, cwd=tmp_path)
    shutil.rmtree(source)
    assert json.loads(run(python, "-c", PROBE, cwd=tmp_path)) == ["lpsnet"]
    text = run(python.with_name("lpsnet-predict"), "--sample", "--output", "out", cwd=tmp_path)
    assert "Building" in text
    assert "onnxruntime" in text
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "china_panoptic.png",
        "china_overlay.png",
        "panoptic.json",
    }
