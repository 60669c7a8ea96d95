"""Augmentation: pure functions of a sample and a random generator, on images and id maps alike."""

import cv2
import numpy as np

from lpsnet.config import AugmentConfig, InputConfig
from lpsnet.data.sample import Sample


def resize(sample: Sample, height: int, width: int) -> Sample:
    """The sample at another size: the image by area when it shrinks and bilinearly when it grows, ids by nearest."""
    if sample.ids.shape == (height, width):
        return sample
    shrinks = height < sample.ids.shape[0]
    image = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    ids = cv2.resize(sample.ids, (width, height), interpolation=cv2.INTER_NEAREST)
    return Sample(sample.name, image, ids, sample.segments)


def flip(sample: Sample) -> Sample:
    """The sample mirrored left to right."""
    return Sample(
        sample.name,
        cv2.flip(sample.image, 1),
        cv2.flip(sample.ids, 1),
        sample.segments,
    )


def crop(sample: Sample, top: int, left: int, height: int, width: int, fill: tuple[int, int, int]) -> Sample:
    """A window of the sample; where it reaches past the bottom or the right the image is `fill` and the ids void."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = fill
    ids = np.zeros((height, width), np.int32)
    h, w = min(height, sample.ids.shape[0] - top), min(width, sample.ids.shape[1] - left)
    image[:h, :w] = sample.image[top : top + h, left : left + w]
    ids[:h, :w] = sample.ids[top : top + h, left : left + w]
    return Sample(sample.name, image, ids, sample.segments)


def jitter_colors(image: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """uint8[H, W, 3] with another exposure, contrast, gamma, saturation and hue."""
    if not any((config.brightness, config.contrast, config.saturation, config.hue, config.gamma)):
        return image
    brightness, contrast, saturation = (
        1 + rng.uniform(-1, 1) * most for most in (config.brightness, config.contrast, config.saturation)
    )
    exponent = 2.0 ** (rng.uniform(-1, 1) * config.gamma)
    hue = rng.uniform(-1, 1) * config.hue
    # Everything that is the same for each value of a channel is one table.
    values = np.arange(256, dtype=np.float64) / 255
    values = values**exponent * brightness
    mean = float((image.mean() / 255) ** exponent * brightness)
    table = np.clip(np.rint(((values - mean) * contrast + mean) * 255), 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table)
    if config.saturation or config.hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(hue / 2)) % 180  # OpenCV's hue is in units of 2 degrees
        hsv[..., 1] = cv2.LUT(hsv[..., 1], np.clip(np.rint(np.arange(256) * saturation), 0, 255).astype(np.uint8))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return image


def augment(sample: Sample, size: InputConfig, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """A training sample: resized by a random factor, cropped, flipped and with other colours."""
    height, width = _training_size(sample.ids.shape, size, config, rng)
    sample = resize(sample, height, width)
    if rng.uniform() < config.flip:
        sample = flip(sample)
    if config.crop is not None:
        crop_height, crop_width = config.crop
        top = int(rng.integers(0, max(0, sample.ids.shape[0] - crop_height) + 1))
        left = int(rng.integers(0, max(0, sample.ids.shape[1] - crop_width) + 1))
        red, green, blue = (round(m) for m in size.mean)
        sample = crop(sample, top, left, crop_height, crop_width, (red, green, blue))
    image = jitter_colors(sample.image, config, rng)
    return Sample(sample.name, image, sample.ids, sample.segments)


def _training_size(
    shape: tuple[int, ...], size: InputConfig, config: AugmentConfig, rng: np.random.Generator
) -> tuple[int, int]:
    if config.long_side is None:
        height, width = size.resized(*shape)
    else:
        ratio = int(rng.integers(*config.long_side, endpoint=True)) / max(shape)
        height, width = (max(1, round(side * ratio)) for side in shape)
    factor = rng.uniform(*config.scale)
    return max(1, round(height * factor)), max(1, round(width * factor))
