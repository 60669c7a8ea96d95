"""The container of TensorRT engines: what is written is read, and anything else is one line."""

import dataclasses
import json

import pytest

from lpsnet.artifact import ArtifactInfo
from lpsnet.config import RECIPES
from lpsnet.engine_file import (
    MAGIC,
    EngineManifest,
    SizeRange,
    is_engine,
    read_engine,
    read_manifest,
    write_engine,
)

MANIFEST = EngineManifest(
    info=ArtifactInfo(RECIPES["lpsnet_tiny_synthetic"], "dense", "fp16", "standard"),
    flavour="tensorrt-rtx",
    tensorrt="1.7.1.116",
    targets=("sm86", "sm120"),
    gpu="",
    sizes=SizeRange((32, 32), (128, 192), (256, 512)),
)
ENGINE = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.engine"
    write_engine(path, MANIFEST, ENGINE)
    return path


def rewritten(path, change):
    """The file with another manifest."""
    data = path.read_bytes()
    length = int.from_bytes(data[8:16], "little")
    content = change(json.loads(data[16 : 16 + length]))
    text = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(MAGIC + len(text).to_bytes(8, "little") + text + data[16 + length :])


def test_what_is_written_is_read(path):
    assert read_engine(path) == (MANIFEST, ENGINE)
    assert read_manifest(path) == MANIFEST
    assert is_engine(path.read_bytes()[:8])
    assert not is_engine(b"\x08\x0alpsnet")
    assert [p.name for p in path.parent.iterdir()] == ["model.engine"]


def test_every_cut_is_named(path):
    whole = path.read_bytes()
    for length in (0, 4, 8, 12, 16, 100, len(whole) - len(ENGINE), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="expected") as error:
            read_engine(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
    path.write_bytes(whole + b"more")
    with pytest.raises(ValueError, match=f"expected an engine of {len(ENGINE)} bytes, got {len(ENGINE) + 4}"):
        read_manifest(path)


def test_a_changed_bit_is_found(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert read_manifest(path) == MANIFEST  # which is whole
    with pytest.raises(ValueError, match="checksum of its manifest, got another: a damaged file"):
        read_engine(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"format": 9}, "expected format 1, got 9: written by another lpsnet"),
        (lambda c: {k: v for k, v in c.items() if k != "sha256"}, "expected 'sha256', got none"),
        (lambda c: {}, "expected 'format', got none"),
        (lambda c: [], "manifest: "),
        (lambda c: "{", "manifest: "),
        (lambda c: "[" * 100_000, "manifest: "),
        (lambda c: c | {"bytes": "many"}, "manifest: "),
        (lambda c: c | {"manifest": c["manifest"] | {"flavour": "other"}}, "flavour"),
        (lambda c: c | {"manifest": c["manifest"] | {"surprise": 1}}, "surprise"),
        (lambda c: c | {"manifest": c["manifest"] | {"targets": "sm86"}}, "targets"),
        (lambda c: c | {"manifest": c["manifest"] | {"sizes": {"smallest": [1, 2]}}}, "SizeRange: expected"),
    ],
)
def test_manifests_that_do_not_read(path, change, message):
    rewritten(path, change)
    with pytest.raises(ValueError, match=message) as error:
        read_manifest(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_engine(tmp_path / "none.engine")
    with pytest.raises(ValueError, match="is a directory"):
        read_engine(tmp_path)


def test_a_manifest_that_claims_to_be_huge(path):
    data = path.read_bytes()
    path.write_bytes(data[:8] + (2**63).to_bytes(8, "little") + data[16:])
    with pytest.raises(ValueError, match="ends in its manifest"):
        read_manifest(path)


def test_sizes():
    sizes = MANIFEST.sizes
    assert (32, 512) in sizes
    assert (288, 64) not in sizes
    assert (32, 544) not in sizes
    assert str(sizes) == "32x32 to 256x512"
    with pytest.raises(ValueError, match="expected widths 1 <= min <= opt <= max, got 64, 32, 96"):
        dataclasses.replace(sizes, smallest=(32, 64), best=(32, 32), largest=(32, 96))
