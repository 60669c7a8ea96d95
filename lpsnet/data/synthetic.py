"""Generated scenes with exact panoptic ground truth: free of licences and downloads, and the same on every machine.

To be the same to the last bit, everything is made of uniform random numbers and of the operations that IEEE 754 rounds
exactly (no sine, no exponential), in float64, element by element.
"""

from dataclasses import dataclass

import numpy as np

from lpsnet.categories import categories
from lpsnet.data.sample import Sample, TrueSegment

MIN_VISIBLE_AREA = 30
"""Objects with fewer visible pixels are void. Ours: what is left of a shape on so few pixels hardly shows its class."""

REFERENCE_SIDE = 128
"""The sizes of objects below are for an image whose shorter side has so many pixels."""
OBJECT_SIZES = (12.0, 80.0)
OBJECTS = (2, 8)
"""Least and greatest number of objects, before occlusion."""

_SKY, _GROUND, _GRASS = range(3)
_DISC, _SQUARE, _TRIANGLE = range(3, 6)


@dataclass(frozen=True)
class _Thing:
    label: int
    center: tuple[float, float]
    radius: float
    axis: tuple[float, float]  # cosine and sine of its rotation
    color: np.ndarray
    stripe: float  # strength of its stripes, 0..1
    depth: float  # 0 is far, 1 near


class SyntheticScenes:
    """Discs, squares and triangles that stand before sky, ground and grass and hide one another.

    A shape's class goes with its colour in half of the cases only, so that its form must be learnt. Sample ``index``
    depends on seed, size and index alone.

    Args:
        length: number of scenes.
        size: height and width of the images, in pixels, at least 32 each.
        seed: scenes of different seeds differ.

    Raises:
        ValueError: a negative length or seed, or a size below 32.
    """

    def __init__(self, length: int, size: tuple[int, int] = (128, 192), seed: int = 0) -> None:
        if length < 0 or seed < 0:
            raise ValueError(f"length, seed: expected at least 0, got {length}, {seed}")
        if min(size) < 32:
            raise ValueError(f"size: expected at least 32 x 32 pixels, got {size[0]} x {size[1]}")
        self.categories = categories("synthetic")
        self._length, self._size, self._seed = length, size, seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        index = range(self._length)[index]
        rng = np.random.default_rng([self._seed, index])
        image, labels = _background(rng, *self._size)
        things = _things(rng, *self._size)
        owner = np.zeros(self._size, np.int32)
        for number, thing in enumerate(things, 1):
            _draw(image, owner, number, thing)
        image *= _between(rng, 0.75, 1.1)
        image += 6 * (rng.random(image.shape) - 0.5)
        ids, segments = _segments(labels, owner, things)
        return Sample(f"synthetic_{self._seed}_{index:06d}", np.clip(image, 0, 255).astype(np.uint8), ids, segments)


def _segments(
    labels: np.ndarray, owner: np.ndarray, things: list[_Thing]
) -> tuple[np.ndarray, tuple[TrueSegment, ...]]:
    ids = np.zeros(labels.shape, np.int32)
    segments: list[TrueSegment] = []
    background = owner == 0
    for label in (_SKY, _GROUND, _GRASS):
        mask = background & (labels == label)
        if mask.any():
            segments.append(TrueSegment(label))
            ids[mask] = len(segments)
    areas = np.bincount(owner.ravel(), minlength=len(things) + 1)
    for number, thing in enumerate(things, 1):
        if areas[number] >= MIN_VISIBLE_AREA:
            segments.append(TrueSegment(thing.label))
            ids[owner == number] = len(segments)
    return ids, tuple(segments)


def _background(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """float64[H, W, 3] colours and int[H, W] classes of the stuff."""
    y, x = _pixel_centers(height, width)
    hills = 0.05 * height * _noise(rng, 1, 4, height, width)[:1]
    horizon = height * _between(rng, 0.25, 0.5) + (x - width / 2) * _between(rng, -0.08, 0.08) + hills
    below = np.clip((y - horizon) / (height - horizon), 0, 1)  # 0 at the horizon, 1 at the lower border

    # Meadows are where a coarse noise is high. It is stretched towards the viewer, which gives the plane its depth.
    meadow = _noise(rng, 5, 4, height, width) + _between(rng, -0.2, 0.2) > 0.5
    labels = np.where(y < horizon, _SKY, np.where(meadow, _GRASS, _GROUND))

    clouds = _noise(rng, 6, 4, height, width) * _noise(rng, 14, 8, height, width)
    haze = np.clip(y / horizon, 0, 1)
    zenith, glow = _jitter(rng, (95, 150, 225), 30), _jitter(rng, (215, 215, 215), 35)
    sky = _mix(_mix(zenith, glow, haze), np.array((250.0, 250.0, 250.0)), np.clip(2.2 * clouds - 0.4, 0, 0.9))
    fine = _noise(rng, height // 2, width // 2, height, width)
    soil = _mix(_jitter(rng, (120, 105, 90), 30), _jitter(rng, (165, 150, 130), 30), below)
    soil = soil * (0.8 + 0.4 * _noise(rng, 20, 10, height, width) * fine)[..., None]
    blades = _noise(rng, height // 3, width, height, width)
    lawn = _mix(_jitter(rng, (80, 125, 70), 25), _jitter(rng, (95, 165, 70), 30), below)
    lawn = lawn * (0.7 + 0.5 * blades)[..., None]
    image = np.where((labels == _SKY)[..., None], sky, np.where((labels == _GRASS)[..., None], lawn, soil))
    return image, labels


def _things(rng: np.random.Generator, height: int, width: int) -> list[_Thing]:
    """Objects from far to near."""
    hue_of = {_DISC: (215, 65, 55), _SQUARE: (60, 80, 205), _TRIANGLE: (230, 185, 45)}
    unit = min(height, width) / REFERENCE_SIDE
    things = []
    for depth in np.sort(rng.random(rng.integers(OBJECTS[0], OBJECTS[1] + 1))):
        label = int(rng.integers(_DISC, _TRIANGLE + 1))
        # Nearer means larger on average; the square keeps large objects rare, as they are in photographs.
        size = OBJECT_SIZES[0] + (OBJECT_SIZES[1] - OBJECT_SIZES[0]) * (0.5 * depth + 0.5 * rng.random()) ** 2
        center = (height * (0.3 + 0.45 * depth + 0.2 * rng.random()), width * _between(rng, 0.03, 0.97))
        color = _jitter(rng, hue_of[label], 35) if rng.random() < 0.5 else 40 + 200 * rng.random(3)
        t = _between(rng, -1, 1)
        axis = ((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t))  # a rotation by up to 90 degrees, without a sine
        stripe = _between(rng, 0.1, 0.35) if rng.random() < 0.3 else 0.0
        things.append(_Thing(label, center, unit * size / 2, axis, color, stripe, float(depth)))
    return things


def _draw(image: np.ndarray, owner: np.ndarray, number: int, thing: _Thing) -> None:
    """Paints the object with its shadow over what is there, and takes the pixels whose centre is inside it."""
    radius = thing.radius
    # The shadow is what reaches farthest: 1.05 radii to the sides and 1.25 down. Antialiasing adds half a pixel.
    reach = 1.3 * radius + 1
    rows = slice(max(0, int(thing.center[0] - reach)), int(thing.center[0] + reach) + 1)
    columns = slice(max(0, int(thing.center[1] - reach)), int(thing.center[1] + reach) + 1)
    y, x = _pixel_centers(*owner.shape)
    dy, dx = (y[rows] - thing.center[0]) / radius, (x[:, columns] - thing.center[1]) / radius
    image, owner = image[rows, columns], owner[rows, columns]
    shadow = 1 - (dx * dx / 1.1 + (dy - 1) * (dy - 1) / 0.06)
    image *= 1 - 0.45 * np.clip(2 * shadow, 0, 1)[..., None]

    u, v = thing.axis[0] * dx + thing.axis[1] * dy, thing.axis[0] * dy - thing.axis[1] * dx
    if thing.label == _DISC:
        outside = np.sqrt(u * u + v * v) - 1
    elif thing.label == _SQUARE:
        outside = np.maximum(np.abs(u), np.abs(v)) - 0.82
    else:
        outside = np.maximum(v, 0.8660254 * np.abs(u) - 0.5 * v) - 0.5
    light = np.clip(1 - 0.5 * ((dx + 0.4) * (dx + 0.4) + (dy + 0.5) * (dy + 0.5)) / 2, 0, 1)
    bands = np.where(np.floor(5 * v) % 2 == 0, 1.0, 1 - thing.stripe)
    rim = np.clip(-outside * radius / 1.5, 0, 1)  # a darker outline of 1.5 pixels
    shade = (0.55 + 0.55 * light) * bands * (0.6 + 0.4 * rim)
    alpha = np.clip(0.5 - outside * radius, 0, 1)[..., None]
    image *= 1 - alpha
    image += alpha * (shade[..., None] * thing.color)
    owner[outside <= 0] = number


def _noise(rng: np.random.Generator, rows: int, columns: int, height: int, width: int) -> np.ndarray:
    """float64[height, width] in 0..1: a rows x columns grid of random values, interpolated smoothly between them."""
    grid = rng.random((rows + 1, columns + 1))
    y, x = _pixel_centers(height, width)
    y, x = y * rows / height, x * columns / width
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    y, x = y - top, x - left
    y, x = y * y * (3 - 2 * y), x * x * (3 - 2 * x)
    grid = grid[top[:, 0]] * (1 - y) + grid[top[:, 0] + 1] * y
    return grid[:, left[0]] * (1 - x) + grid[:, left[0] + 1] * x


def _pixel_centers(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5


def _mix(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return low * (1 - weight[..., None]) + high * weight[..., None]


def _jitter(rng: np.random.Generator, color: tuple[int, int, int], amount: float) -> np.ndarray:
    return np.array(color) + amount * (2 * rng.random(3) - 1)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()
