"""Which true segments were found, as what, and which were not: panoptic quality's matches with their classes."""

from collections.abc import Sequence

import numpy as np

from lpsnet.categories import Category
from lpsnet.data.sample import Sample
from lpsnet.structures import PanopticResult


class SegmentConfusion:
    """Adds up matches of segments over a data set.

    As in panoptic quality, segments match where their IoU, without the void pixels of the truth, is above 0.5, crowds
    count for nothing, and so do predicted segments that lie mostly on void or on a crowd of their class. Unlike there,
    segments of different classes may match: panoptic quality counts such a pair as one missed and one false segment.
    So the diagonal are its tp, the rest of a row its fn, and the rest of a column its fp.

    Attributes:
        matrix: int64[C + 1, C + 1], segments by true class and predicted class. The last column are missed segments,
            the last row false ones.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        self.matrix = np.zeros((len(categories) + 1, len(categories) + 1), np.int64)

    def update(self, sample: Sample, result: PanopticResult) -> None:
        """Adds one image."""
        true = np.array([-1, *(s.label for s in sample.segments)])
        crowd = np.array([False, *(s.iscrowd for s in sample.segments)])
        predicted = np.full(max((s.id for s in result.segments), default=0) + 1, -1)
        for segment in result.segments:
            predicted[segment.id] = segment.label
        pairs = sample.ids.ravel().astype(np.int64) * len(predicted) + result.ids.ravel()
        shared = np.bincount(pairs, minlength=len(true) * len(predicted)).reshape(len(true), len(predicted))
        true_area, area = shared.sum(1), shared.sum(0)

        union = true_area[:, None] + (area - shared[0]) - shared
        match = shared > 0.5 * union
        match[0], match[:, 0], match[crowd] = False, False, False
        same_class = true[:, None] == predicted
        ignored_area = shared[0] + (shared * (crowd[:, None] & same_class)).sum(0)
        # What panoptic quality does not count as false is no confusion either, but it may be a match of its class.
        match &= same_class | (ignored_area <= 0.5 * area)

        nothing = len(self.matrix) - 1
        rows, columns = np.nonzero(match)
        np.add.at(self.matrix, (true[rows], predicted[columns]), 1)
        missed = (np.arange(len(true)) > 0) & (true_area > 0) & ~crowd & ~match.any(1)
        np.add.at(self.matrix, (true[missed], nothing), 1)
        false = (np.arange(len(predicted)) > 0) & (area > 0) & ~match.any(0) & (ignored_area <= 0.5 * area)
        np.add.at(self.matrix, (nothing, predicted[false]), 1)
