"""Reads a whole data set and counts what is in it, and what is wrong with it."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import cv2
import numpy as np

from lpsnet.data.coco_panoptic import CocoPanoptic
from lpsnet.data.sample import LabelledDataset, Sample
from lpsnet.data.unlabelled import UnlabelledImages


@dataclass
class ClassCounts:
    """Of one class.

    Attributes:
        images: in which it is.
        segments: objects of a thing class, regions of a stuff class; crowds are not among them.
        crowds: groups of things that nobody told apart.
        pixels: of all of these.
    """

    images: int = 0
    segments: int = 0
    crowds: int = 0
    pixels: int = 0


@dataclass
class SplitReport:
    """What a split holds.

    Attributes:
        labelled: whether it has ground truth.
        images: that could be read.
        pixels: of these images.
        void_pixels: without a class.
        crowd_pixels: of crowds.
        classes: by name, in the order of the data set.
        empty: names of the samples without any segment.
        skipped: images that the annotations leave out.
        faults: one line each, with the file.
    """

    labelled: bool = True
    images: int = 0
    pixels: int = 0
    void_pixels: int = 0
    crowd_pixels: int = 0
    classes: dict[str, ClassCounts] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def void_share(self) -> float:
        """Of all pixels; 0 where there are none."""
        return self.void_pixels / max(1, self.pixels)

    @property
    def crowd_share(self) -> float:
        """Of all pixels; 0 where there are none."""
        return self.crowd_pixels / max(1, self.pixels)


@dataclass(frozen=True)
class _Counts:
    """Of one image: int64[classes, 4], the fields of `ClassCounts`, and its name and pixels."""

    name: str
    table: np.ndarray
    pixels: int
    void_pixels: int
    crowd_pixels: int
    empty: bool


def check_split(
    dataset: LabelledDataset, report: SplitReport, workers: int, on_image: Callable[[int], None] = lambda _: None
) -> None:
    """Reads every image of a split into a report.

    Args:
        dataset: of which indexing found the faults that the report has already.
        report: is added to.
        workers: processes that read; 0 reads in this one.
        on_image: called with the number of images done after each.
    """
    report.labelled = not isinstance(dataset, UnlabelledImages)
    report.skipped += dataset.skipped if isinstance(dataset, CocoPanoptic) else ()
    counts = [ClassCounts() for _ in dataset.categories]
    for done, found in enumerate(_results(dataset, workers), 1):
        if isinstance(found, str):
            report.faults.append(found)
        else:
            report.images += 1
            report.pixels += found.pixels
            report.void_pixels += found.void_pixels
            report.crowd_pixels += found.crowd_pixels
            if found.empty:
                report.empty.append(found.name)
            for row in np.flatnonzero(found.table[:, 0]).tolist():
                images, segments, crowds, pixels = found.table[row].tolist()
                counts[row].images += images
                counts[row].segments += segments
                counts[row].crowds += crowds
                counts[row].pixels += pixels
        on_image(done)
    report.classes = {category.name: count for category, count in zip(dataset.categories, counts, strict=True)}


def _results(dataset: LabelledDataset, workers: int) -> Iterator["_Counts | str"]:
    if workers == 0:
        yield from (_read(dataset, index) for index in range(len(dataset)))
        return
    # Not forked: OpenCV's threads do not survive that.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (dataset,))
    try:
        yield from pool.map(_read_shared, range(len(dataset)), chunksize=8)
    finally:
        pool.shutdown(cancel_futures=True)


_shared: dict[str, LabelledDataset] = {}
"""What a worker process keeps from its start on, so that the data set travels once."""


def _start_worker(dataset: LabelledDataset) -> None:
    cv2.setNumThreads(0)
    _shared["dataset"] = dataset
    # The decoders of OpenCV write to stderr what they dislike, without the name of the file.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _read_shared(index: int) -> "_Counts | str":
    return _read(_shared["dataset"], index)


def _read(dataset: LabelledDataset, index: int) -> "_Counts | str":
    try:
        return _count(dataset[index], len(dataset.categories))
    except (ValueError, OSError) as error:
        return str(error)


def _count(sample: Sample, classes: int) -> _Counts:
    areas = np.bincount(sample.ids.ravel(), minlength=len(sample.segments) + 1).tolist()
    table = np.zeros((classes, 4), np.int64)
    crowd_pixels = 0
    for segment, area in zip(sample.segments, areas[1:], strict=True):
        table[segment.label] += (0, not segment.iscrowd, segment.iscrowd, area)
        crowd_pixels += area if segment.iscrowd else 0
    table[:, 0] = table[:, 3] > 0
    return _Counts(sample.name, table, sample.ids.size, areas[0], crowd_pixels, not sample.segments)
