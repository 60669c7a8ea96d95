"""Files and folders that are either whole or not there."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file under another name in its folder and renames it: no reader and no crash ever sees a part of it.

    Raises:
        OSError: the folder does not exist or cannot be written to. Nothing is left behind.
    """
    with opened(path) as file:
        file.write(data)


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to that gets its name when the block ends, and vanishes where the block fails.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill that gets its name when the block ends, and vanishes where the block fails.

    Yields:
        The folder under its temporary name, in the same place.

    Raises:
        FileExistsError: there is something at `path` other than an empty folder; it is left as it is.
        OSError: a place that cannot be written to.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path}: expected a new or an empty folder, got one with files in it or a file")
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.rmdir()  # empty; Windows does not rename over it
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _temporary(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex}.tmp")
