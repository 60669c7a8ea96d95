import tracemalloc

import cv2
import numpy as np
import pytest

from lpsnet.data.sample import TrueSegment
from lpsnet.data.value_map import segments_of


def describe(value: int) -> TrueSegment | None:
    """Class value // 1000 of 0..4, of which the odd ones are things; 5 and above is void."""
    return TrueSegment(value // 1000, value % 1000 == 999) if value < 5000 else None


ISTHING = [False, True, False, True, False]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (37, 61), (700, 900)])
def test_against_a_loop_over_the_values(shape):
    values = np.random.default_rng(0).choice([0, 1, 1000, 1001, 1999, 2000, 2007, 3999, 6000, 65535], shape)
    values = values.astype(np.uint16)
    ids, segments = segments_of(values, describe, ISTHING)
    expected = np.zeros(shape, np.int32)
    rows: list[TrueSegment] = []
    stuff: dict[int, int] = {}
    for value in np.unique(values).tolist():
        if value >= 5000:
            continue
        segment = TrueSegment(value // 1000, value % 1000 == 999)
        if segment.label not in stuff:
            rows.append(segment)
        expected[values == value] = stuff.get(segment.label, len(rows))
        if not ISTHING[segment.label]:
            stuff.setdefault(segment.label, len(rows))
    assert ids.dtype == np.int32
    assert np.array_equal(ids, expected)
    assert segments == tuple(rows)


def test_strided_maps():
    values = np.random.default_rng(0).integers(0, 5000, (40, 60)).astype(np.uint16)
    for view in (values[::2, ::3], values.T, values[:, ::-1]):
        ids, segments = segments_of(view, describe, ISTHING)
        assert ids.shape == view.shape
        assert np.array_equal(ids, segments_of(np.ascontiguousarray(view), describe, ISTHING)[0])
        assert ids.max() == len(segments)


def test_what_describe_raises_goes_through():
    def refuse(value: int) -> TrueSegment:
        raise ValueError(f"no {value}")

    with pytest.raises(ValueError, match="no 7"):
        segments_of(np.full((2, 2), 7, np.uint16), refuse, [])


def test_a_map_of_12_million_pixels_needs_little_more_than_its_ids():
    small = np.random.default_rng(0).integers(0, 5000, (30, 40)).astype(np.uint16)
    values = cv2.resize(small, (4000, 3000), interpolation=cv2.INTER_NEAREST)
    tracemalloc.start()
    ids, _ = segments_of(values, describe, ISTHING)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * ids.nbytes
