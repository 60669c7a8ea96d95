"""What evaluation servers take: panoptic PNGs with their JSON, label maps, and their archives.

Each submission is a folder that is there when it is whole (`lpsnet.atomic.folder`), at the size of the original
images. The JSON grows on disk, not in memory.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from lpsnet import atomic, coco_format
from lpsnet.categories import Category
from lpsnet.evaluation.evaluate import ScoredImage

_CITYSCAPES_NAME = re.compile(r"(?P<id>[^_]+_\d{6}_\d{6})(_leftImg8bit)?")


class _PanopticFolder:
    """PNGs of segment ids in ``NAME/`` and their segments in ``NAME.json`` (COCO panoptic format, results)."""

    def __init__(self, root: Path, name: str, categories: Sequence[Category]) -> None:
        self._images = root / name
        self._images.mkdir()
        self._categories = categories
        self._names: set[str] = set()
        self._json = (root / f"{name}.json").open("x", encoding="utf-8")
        self._json.write('{"annotations": [')

    def write(self, image: ScoredImage, image_id: int | str, stem: str) -> None:
        if stem in self._names:
            raise ValueError(f"sample: expected names that differ, got {stem} twice")
        file_name = f"{stem}.png"
        coco_format.write_png(self._images / file_name, image.result.ids)
        annotation = coco_format.annotation(image.result, image_id, file_name)
        self._json.write((",\n" if self._names else "\n") + json.dumps(annotation, allow_nan=False))
        self._names.add(stem)

    def finish(self) -> None:
        rows = json.dumps(coco_format.category_rows(self._categories))
        self._json.write(f'\n],\n"categories": {rows}}}\n')
        self.close()

    def close(self) -> None:
        self._json.close()


class CocoSubmission:
    """Sees every image and writes what COCO's panoptic leaderboard takes; see `coco_submission`."""

    def __init__(self, root: Path, name: str, categories: Sequence[Category]) -> None:
        self.panoptic = _PanopticFolder(root, name, categories)

    def update(self, image: ScoredImage) -> None:
        """Adds one image. Raises ValueError for a name that occurred before."""
        stem = image.sample.name
        self.panoptic.write(image, int(stem) if stem.isdecimal() else stem, stem)


class CityscapesSubmission:
    """Sees every image and writes what Cityscapes' benchmark takes; see `cityscapes_submission`."""

    def __init__(self, root: Path, split: str, categories: Sequence[Category]) -> None:
        (root / "panoptic").mkdir()
        self.panoptic = _PanopticFolder(root / "panoptic", f"cityscapes_panoptic_{split}", categories)
        self._semantic = root / "semantic"
        self._semantic.mkdir()
        self._label_ids = np.array([c.id for c in categories], np.uint8)

    def update(self, image: ScoredImage) -> None:
        """Adds one image. Raises ValueError for a name that is not Cityscapes' or that occurred before."""
        match = _CITYSCAPES_NAME.fullmatch(image.sample.name)
        if match is None:
            raise ValueError(
                "sample: expected a name of Cityscapes such as frankfurt_000000_000294_leftImg8bit, "
                f"got {image.sample.name}"
            )
        name = match["id"]
        self.panoptic.write(image, name, f"{name}_panoptic")
        _, png = cv2.imencode(".png", self._label_ids[image.labels])
        atomic.write_bytes(self._semantic / f"{name}_labelIds.png", png.tobytes())


@contextmanager
def coco_submission(
    path: Path, split: str, algorithm: str, categories: Sequence[Category], archive: bool = False
) -> Iterator[CocoSubmission]:
    """A folder for COCO's panoptic leaderboard.

    ``panoptic_SPLIT_ALGORITHM_results/`` has a PNG of segment ids for each image, and
    ``panoptic_SPLIT_ALGORITHM_results.json`` the segments. The id of an image is the number that its file name spells,
    as in COCO; where it spells none, the name itself.

    Args:
        path: new or empty.
        split: as COCO spells it, such as test-dev2017.
        algorithm: a name for what is submitted.
        categories: the classes.
        archive: whether the two go into a ``.zip`` of that name as well, which is what is uploaded.

    Raises:
        FileExistsError: a folder with files in it.
        OSError: a place that cannot be written to.
    """
    name = f"panoptic_{split}_{algorithm}_results"
    with atomic.folder(path) as root:
        submission = CocoSubmission(root, name, categories)
        with _finishing(submission.panoptic):
            yield submission
        if archive:
            _zip(root / f"{name}.zip", root, [root / f"{name}.json", root / name])


@contextmanager
def cityscapes_submission(
    path: Path, split: str, categories: Sequence[Category], archive: bool = False
) -> Iterator[CityscapesSubmission]:
    """A folder for Cityscapes' benchmark, of which two tasks take what the network predicts.

    ``panoptic/cityscapes_panoptic_SPLIT/`` has a PNG of segment ids for each image and
    ``panoptic/cityscapes_panoptic_SPLIT.json`` the segments, with Cityscapes' own class ids and images named
    ``CITY_SEQUENCE_FRAME``; ``semantic/CITY_SEQUENCE_FRAME_labelIds.png`` is the label map of the semantic head in the
    same ids. The two stand apart because Cityscapes' scripts look for one PNG of each image below a folder.

    Args:
        path: new or empty.
        split: such as test.
        categories: the classes of Cityscapes.
        archive: whether each task gets a ``.zip`` as well, which is what is uploaded.

    Raises:
        FileExistsError: a folder with files in it.
        OSError: a place that cannot be written to.
    """
    with atomic.folder(path) as root:
        submission = CityscapesSubmission(root, split, categories)
        with _finishing(submission.panoptic):
            yield submission
        if archive:
            for task in ("panoptic", "semantic"):
                _zip(root / f"{task}.zip", root / task, sorted((root / task).iterdir()))


@contextmanager
def _finishing(panoptic: _PanopticFolder) -> Iterator[None]:
    try:
        yield
        panoptic.finish()
    finally:
        panoptic.close()


def _zip(path: Path, root: Path, entries: Sequence[Path]) -> None:
    """Files and folders under the names that they have below `root`. PNGs are compressed already."""
    with zipfile.ZipFile(path, "x") as archive:
        for entry in entries:
            for file in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
                kind = zipfile.ZIP_STORED if file.suffix == ".png" else zipfile.ZIP_DEFLATED
                archive.write(file, file.relative_to(root), kind)
