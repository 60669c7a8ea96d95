"""Files with an engine of TensorRT: the engine as it is, behind a manifest that says where it runs. No torch.

``LPSTRT\\r\\n``, the length of the manifest as a little-endian uint64, the manifest in JSON, the engine. Of an engine
alone nobody could say what it is but the very version of the library that wrote it.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lpsnet import atomic
from lpsnet.artifact import ArtifactInfo
from lpsnet.fields import from_dict

Flavour = Literal["tensorrt", "tensorrt-rtx"]

MAGIC = b"LPSTRT\r\n"
FORMAT = 1
"""Of the manifest."""
_LENGTH_BYTES = 8
_MOST_MANIFEST_BYTES = 1 << 24


@dataclass(frozen=True)
class SizeRange:
    """Heights and widths of the network's input that an engine takes, multiples of 32.

    Attributes:
        smallest, largest: bounds of each side.
        best: what it is fastest at.

    Raises:
        ValueError: a size that is not between the other two.
    """

    smallest: tuple[int, int]
    best: tuple[int, int]
    largest: tuple[int, int]

    def __post_init__(self) -> None:
        for axis, side in enumerate(("height", "width")):
            low, middle, high = self.smallest[axis], self.best[axis], self.largest[axis]
            if not 1 <= low <= middle <= high:
                raise ValueError(f"sizes: expected {side}s 1 <= min <= opt <= max, got {low}, {middle}, {high}")

    def __contains__(self, size: Sequence[int]) -> bool:
        return all(a <= b <= c for a, b, c in zip(self.smallest, size, self.largest, strict=True))

    def __str__(self) -> str:
        return " to ".join(f"{height}x{width}" for height, width in (self.smallest, self.largest))


@dataclass(frozen=True)
class EngineManifest:
    """What an engine was made from, and what it runs on.

    Attributes:
        info: of the network; its version is that of lpsnet, whose liblpsnet computes deformable convolutions.
        flavour: of TensorRT.
        tensorrt: its version, the only one that runs the engine.
        targets: compute capabilities of the GPUs that run it, such as sm86.
        gpu: the name of that which it was built and timed on; none where it was built ahead of time.
        sizes: of the input.
    """

    info: ArtifactInfo
    flavour: Flavour
    tensorrt: str
    targets: tuple[str, ...]
    gpu: str
    sizes: SizeRange


def is_engine(head: bytes) -> bool:
    """Whether a file that begins like this, with 8 bytes or more, is one of `write_engine`."""
    return head.startswith(MAGIC)


def write_engine(path: str | Path, manifest: EngineManifest, engine: bytes | memoryview) -> None:
    """Writes a file, whole or not at all. Raises OSError where it cannot be written."""
    checksum = hashlib.sha256(engine).hexdigest()
    content = {"format": FORMAT, "bytes": len(engine), "sha256": checksum, "manifest": asdict(manifest)}
    text = json.dumps(content).encode()
    with atomic.opened(path) as file:
        file.write(MAGIC + len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        file.write(engine)


def read_manifest(path: str | Path) -> EngineManifest:
    """The manifest alone, without a look at the engine. Raises ValueError as `read_engine`."""
    return _read(Path(path), with_engine=False)[0]


def read_engine(path: str | Path) -> tuple[EngineManifest, bytes]:
    """The manifest and the engine.

    Raises:
        ValueError: another file, a truncated or a damaged one; one line with the path.
    """
    return _read(Path(path), with_engine=True)


def _read(path: Path, with_engine: bool) -> tuple[EngineManifest, bytes]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(len(MAGIC) + _LENGTH_BYTES)
            if not is_engine(head):
                raise ValueError(f"{path}: expected an engine of lpsnet-export, got {size} bytes of something else")
            length = int.from_bytes(head[len(MAGIC) :], "little")
            room = size - len(head)
            if len(head) < len(MAGIC) + _LENGTH_BYTES or length > min(room, _MOST_MANIFEST_BYTES):
                raise ValueError(f"{path}: expected a whole engine, got a file that ends in its manifest")
            manifest, expected_bytes, checksum = _parse(path, file.read(length))
            got = size - file.tell()
            if got != expected_bytes:
                raise ValueError(f"{path}: expected an engine of {expected_bytes} bytes, got {got}: a truncated file")
            engine = file.read() if with_engine else b""
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if with_engine and hashlib.sha256(engine).hexdigest() != checksum:
        raise ValueError(f"{path}: expected an engine with the checksum of its manifest, got another: a damaged file")
    return manifest, engine


def _parse(path: Path, text: bytes) -> tuple[EngineManifest, int, str]:
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {content['format']!r}: written by another lpsnet")
        return from_dict(EngineManifest, content["manifest"]), int(content["bytes"]), str(content["sha256"])
    except KeyError as error:
        raise ValueError(f"{path}: manifest: expected {error}, got none") from None
    except (TypeError, ValueError, AttributeError, RecursionError) as error:  # JSON may hold anything
        raise ValueError(f"{path}: manifest: {' '.join(str(error).split())}") from None
