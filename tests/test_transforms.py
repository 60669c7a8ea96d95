import numpy as np
import pytest

from lpsnet.config import AugmentConfig, InputConfig
from lpsnet.data.sample import Sample, Subset, TrueSegment
from lpsnet.data.transforms import augment, crop, flip, jitter_colors, resize


def sample(height: int = 60, width: int = 80, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    ids = np.kron(rng.integers(0, 4, (height // 10, width // 10)), np.ones((10, 10))).astype(np.int32)
    image = np.stack([ids * 60, ids * 30, 255 - ids * 60], -1).astype(np.uint8)  # the image tells the id
    return Sample("made", image, ids, tuple(TrueSegment(i) for i in range(3)))


def test_flip_and_crop_move_image_and_ids_alike():
    made = sample()
    twice = flip(flip(made))
    assert np.array_equal(twice.image, made.image)
    assert np.array_equal(flip(made).ids, made.ids[:, ::-1])
    window = crop(made, 50, 60, 40, 50, (1, 2, 3))
    assert window.ids.shape == (40, 50)
    assert np.array_equal(window.ids[:10, :20], made.ids[50:, 60:])
    assert (window.ids[10:] == 0).all()
    assert (window.image[20, 30] == (1, 2, 3)).all()


@pytest.mark.parametrize("size", [(60, 80), (30, 40), (90, 133), (1, 1)])
def test_resize(size):
    resized = resize(sample(), *size)
    assert resized.ids.shape == size
    assert resized.image.shape == (*size, 3)
    assert set(np.unique(resized.ids)) <= {0, 1, 2, 3}


def test_augmentation_keeps_image_and_ids_together_and_depends_on_the_generator_alone():
    size = InputConfig(short_side=60, max_side=80, mean=(7, 8, 9))
    config = AugmentConfig(crop=(50, 70), scale=(0.5, 2.0))
    for seed in range(20):
        first = augment(sample(), size, config, np.random.default_rng(seed))
        again = augment(sample(), size, config, np.random.default_rng(seed))
        assert np.array_equal(first.image, again.image)
        assert np.array_equal(first.ids, again.ids)
        assert first.ids.shape == (50, 70)
        outside = (first.image == (7, 8, 9)).all(-1)
        assert (first.ids[outside] == 0).all()
        off = np.abs(first.image[..., 0].astype(int) - first.ids * 60)  # less at blended edges
        assert (off[~outside] <= 31).mean() > 0.8


def test_no_color_change_is_exact_and_extreme_ones_stay_in_range():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(jitter_colors(image, AugmentConfig(), np.random.default_rng(1)), image)
    wild = AugmentConfig(brightness=0.9, contrast=0.9, saturation=0.9, hue=180, gamma=3)
    for seed in range(10):
        assert jitter_colors(image, wild, np.random.default_rng(seed)).dtype == np.uint8


def test_sizes_of_the_input():
    config = InputConfig(short_side=800, max_side=1333)
    assert config.resized(480, 640) == (800, 1067)
    assert config.resized(480, 1600) == (400, 1333)
    assert config.resized(1, 5000) == (1, 1333)
    assert config.padded(800, 1067) == (800, 1088)


def test_subset_and_bad_sample():
    assert len(Subset([sample(seed=i) for i in range(5)], [1, 3])) == 2
    with pytest.raises(ValueError, match=r"image: expected uint8 \[60, 80, 3\], got uint8 \[60, 79, 3\]"):
        Sample("bad", sample().image[:, :79], sample().ids, sample().segments)


def test_the_longer_side_is_drawn_from_its_range():
    # Of either orientation, in the image's own proportions, whatever the size in test is.
    config = AugmentConfig(long_side=(40, 160))
    lengths = set()
    for seed in range(60):
        for made in (sample(60, 80), sample(80, 60)):
            scaled = augment(made, InputConfig(short_side=600, max_side=800), config, np.random.default_rng(seed))
            longer, shorter = max(scaled.ids.shape), min(scaled.ids.shape)
            assert (scaled.ids.shape[0] > scaled.ids.shape[1]) == (made.ids.shape[0] > made.ids.shape[1])
            assert abs(shorter - 0.75 * longer) <= 0.5
            lengths.add(longer)
    assert min(lengths) in range(40, 50)
    assert max(lengths) in range(150, 161)
    cropped = augment(
        sample(), InputConfig(), AugmentConfig(long_side=(50, 50), crop=(40, 80)), np.random.default_rng(0)
    )
    assert cropped.ids.shape == (40, 80)
    assert (cropped.ids[38:] == 0).all()
    assert (cropped.ids[:, 50:] == 0).all()
