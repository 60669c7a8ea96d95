"""What stays in memory, in processes of their own, as pytest's is full of holes."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lpsnet.config import DEFAULT_ARTIFACT
from lpsnet.packaged import packaged_file

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is given back by glibc alone")

RESIDENT = """
from pathlib import Path

def resident():
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmRSS"))

"""

HOLES = """
from lpsnet.memory import give_back_freed_memory

blocks = [bytes([i % 251 + 1]) * 60_000 for i in range(3000)]  # too small for pages of their own
kept = blocks[::2]
del blocks
before = resident()
give_back_freed_memory()
assert all(set(k) == {k[0]} for k in kept)
print(before - resident())
"""

LOADED = """
import sys
import onnxruntime
import lpsnet.engine

with lpsnet.engine.load(sys.argv[1].replace(".onnx", "_int8.onnx")):  # what the first model brings along
    before = resident()
    with lpsnet.engine.load(sys.argv[1]):
        print(resident() - before)
"""


def kilobytes(code: str, *arguments: str | Path) -> int:
    done = subprocess.run([sys.executable, "-c", RESIDENT + code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_what_was_freed_goes_back_to_the_system():
    assert kilobytes(HOLES) > 50_000  # of 90,000


def test_an_exported_model_is_not_in_memory_twice():
    """Nor is the file that its session was made of."""
    path = packaged_file(DEFAULT_ARTIFACT)
    assert kilobytes(LOADED, path) < 1.7 * path.stat().st_size / 1e3
