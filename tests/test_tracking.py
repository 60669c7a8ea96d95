import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_streams import CLASSES, DISC, result_of

from lpsnet.engine.tracking import Tracker
from lpsnet.structures import PanopticResult

THINGS = [i for i, c in enumerate(CLASSES) if c.isthing]
STUFF = next(i for i, c in enumerate(CLASSES) if not c.isthing)


def scene(boxes: dict[int, tuple[int, int, int, int]], labels: dict[int, int] | None = None, size=(100, 160)):
    """A map with the rectangles x1, y1, x2, y2 of each id; discs unless `labels` says otherwise."""
    ids = np.zeros(size, np.int32)
    for i, (x1, y1, x2, y2) in boxes.items():
        ids[y1:y2, x1:x2] = i
    return result_of(ids, {i: (labels or {}).get(i, DISC) for i in boxes})


def numbers(tracker: Tracker, result: PanopticResult) -> dict[int, int]:
    return {segment: track.id for segment, track in tracker.update(result).items()}


def test_numbers_follow_objects_whose_ids_swap():
    tracker = Tracker(0.3, 5)
    assert numbers(tracker, scene({1: (0, 0, 20, 20), 2: (50, 0, 70, 20)})) == {1: 1, 2: 2}
    assert numbers(tracker, scene({1: (53, 0, 73, 20), 2: (3, 0, 23, 20)})) == {1: 2, 2: 1}
    assert tracker.count == 2


def test_stuff_has_no_number_and_classes_do_not_mix():
    tracker = Tracker(0.3, 5)
    box = (10, 10, 40, 40)
    assert numbers(tracker, scene({1: box, 2: (60, 60, 90, 90)}, {2: STUFF})) == {1: 1}
    if len(THINGS) > 1:
        assert numbers(tracker, scene({1: box}, {1: THINGS[1]})) == {1: 2}


def test_the_best_overlap_wins():
    tracker = Tracker(0.1, 5)
    numbers(tracker, scene({1: (0, 0, 20, 20), 2: (20, 0, 40, 20)}))
    # The first object is gone; the second has moved to where it overlaps both.
    assert numbers(tracker, scene({1: (14, 0, 34, 20)})) == {1: 2}


def test_masks_and_not_boxes_decide_where_they_overlap():
    ids = np.zeros((60, 60), np.int32)
    ids[np.triu_indices(60, 1)] = 1
    ids[np.tril_indices(60, -1)] = 2
    tracker = Tracker(0.3, 5)
    before = numbers(tracker, result_of(ids, {1: DISC, 2: DISC}))
    swapped = np.where(ids, 3 - ids, 0)  # both boxes are the whole image, almost
    after = numbers(tracker, result_of(swapped, {1: DISC, 2: DISC}))
    assert (after[1], after[2]) == (before[2], before[1])


def test_an_object_may_be_lost_for_some_frames():
    for patience, again in ((2, 1), (1, 2)):
        tracker = Tracker(0.3, patience)
        numbers(tracker, scene({1: (0, 0, 30, 30)}))
        for _ in range(2):
            assert numbers(tracker, scene({})) == {}
        assert numbers(tracker, scene({1: (2, 0, 32, 30)})) == {1: again}


def test_an_object_is_expected_where_its_movement_brings_it():
    tracker = Tracker(0.3, 5)
    numbers(tracker, scene({1: (0, 0, 30, 30)}))
    numbers(tracker, scene({1: (12, 0, 42, 30)}))
    numbers(tracker, scene({1: (36, 0, 66, 30)}))  # 0.11 of where it was; 0.43 of where it was expected
    assert numbers(tracker, scene({})) == {}
    assert numbers(tracker, scene({1: (84, 0, 114, 30)})) == {1: 1}  # two movements on


def test_ages():
    tracker = Tracker(0.3, 5)
    for age in (1, 2, 3):
        assert tracker.update(scene({1: (0, 0, 30, 30)}))[1].age == age
    tracker.update(scene({}))
    assert tracker.update(scene({1: (0, 0, 30, 30)}))[1].age == 5


def test_the_size_of_the_frames_may_change():
    tracker = Tracker(0.3, 5)
    numbers(tracker, scene({1: (0, 0, 80, 50)}))
    assert numbers(tracker, scene({1: (0, 0, 42, 25)}, size=(50, 80))) == {1: 1}


def test_numbers_are_not_given_again():
    tracker = Tracker(0.5, 0)
    seen = [numbers(tracker, scene({1: (40 * (i % 2), 0, 40 * (i % 2) + 20, 20)}))[1] for i in range(5)]
    assert seen == [1, 2, 3, 4, 5]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(1, 15), st.integers(1, 15)), max_size=6),
        min_size=1,
        max_size=6,
    )
)
def test_every_thing_has_one_number_of_its_own(frames):
    tracker = Tracker(0.2, 2)
    for boxes in frames:
        ids = np.zeros((36, 46), np.int32)
        for i, (x, y, w, h) in enumerate(boxes, start=1):
            ids[y : y + h, x : x + w] = i
        present = [int(i) for i in np.unique(ids) if i]
        result = result_of(ids, dict.fromkeys(present, DISC))
        tracks = tracker.update(result)
        assert sorted(tracks) == present
        assert len({track.id for track in tracks.values()}) == len(present)
        assert all(tracks[s.id].segment == s for s in result.segments)


@pytest.mark.parametrize(
    ("iou", "patience", "message"), [(0, 5, "track_iou"), (1.5, 5, "track_iou"), (0.3, -1, "track_patience")]
)
def test_settings_out_of_range(iou, patience, message):
    with pytest.raises(ValueError, match=message):
        Tracker(iou, patience)
