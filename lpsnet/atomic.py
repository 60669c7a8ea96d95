"""Files that are either whole or not there."""

import uuid
from pathlib import Path


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file under another name in its folder and renames it: no reader and no crash ever sees a part of it.

    Raises:
        OSError: the folder does not exist or cannot be written to. Nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
