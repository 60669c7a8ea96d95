import hashlib

import numpy as np
import pytest

from lpsnet.data.sample import Sample
from lpsnet.data.synthetic import MIN_VISIBLE_AREA, SyntheticScenes


def digest(sample: Sample) -> str:
    labels = np.array([s.label for s in sample.segments], np.int32)
    return hashlib.sha256(sample.image.tobytes() + sample.ids.tobytes() + labels.tobytes()).hexdigest()


def test_same_scene_on_every_machine():
    assert digest(SyntheticScenes(10)[7]) == "1194127d102d623fa1d9a8c121583d7eb8f3678788b4f20b1d25213590e74ba4"


def test_depends_on_seed_and_index_alone():
    scenes = SyntheticScenes(10)
    digests = [digest(scene) for scene in scenes]
    assert len(digests) == 10
    assert digests == [digest(SyntheticScenes(20)[i]) for i in reversed(range(10))][::-1]
    assert len({*digests, *(digest(scene) for scene in SyntheticScenes(10, seed=1))}) == 20


@pytest.mark.parametrize("size", [(128, 192), (33, 47), (200, 101)])
def test_truth_is_whole(size):
    scenes = SyntheticScenes(40, size, seed=3)
    isthing = [c.isthing for c in scenes.categories]
    seen = set()
    for scene in scenes:
        areas = np.bincount(scene.ids.ravel(), minlength=len(scene.segments) + 1)
        assert scene.image.shape == (*size, 3)
        assert len(areas) == len(scene.segments) + 1
        assert all(areas[i] >= MIN_VISIBLE_AREA for i in scene.object_ids(isthing))
        assert (areas[1:] > 0).all()
        stuff = [s.label for s in scene.segments if not isthing[s.label]]
        assert len(stuff) == len(set(stuff))
        seen |= {s.label for s in scene.segments}
    assert seen == set(range(len(isthing)))


def test_colour_does_not_tell_the_class():
    scenes = SyntheticScenes(200)
    colors = {3: [], 4: [], 5: []}
    for scene in scenes:
        for i in scene.object_ids([c.isthing for c in scenes.categories]):
            colors[scene.segments[i - 1].label].append(scene.image[scene.ids == i].mean(0))
    for rows in colors.values():
        hues = np.array(rows)
        assert len(rows) > 100
        # Each channel is the brightest in some objects of each class.
        assert set(hues.argmax(1)) == {0, 1, 2}


@pytest.mark.parametrize("index", [3, -4])
def test_index_outside(index):
    with pytest.raises(IndexError):
        SyntheticScenes(3)[index]


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"size: expected at least 32 x 32 pixels, got 31 x 64"):
        SyntheticScenes(3, (31, 64))
    with pytest.raises(ValueError, match=r"length, seed: expected at least 0, got 3, -1"):
        SyntheticScenes(3, seed=-1)
