"""The threads of liblpsnet: calls from many threads, from forked processes, with one thread or several."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lpsnet import native
from lpsnet.native import library


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = library.num_threads()
    library.set_num_threads(2)
    yield
    library.set_num_threads(before)


def run_ops(seed: int) -> list[np.ndarray]:
    """Ops that spread over threads in different ways, on data large enough that they do."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 900, (3000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 100, (3000, 2))], axis=1)
    one_class = native.nms(boxes, rng.uniform(size=3000), np.zeros(3000), 0.5, 3000)
    many_classes = native.nms(boxes, rng.uniform(size=3000), rng.integers(0, 40, 3000), 0.5, 3000)
    maps = rng.uniform(0, 50, (4, 60, 80)), rng.uniform(size=(60, 80))
    logits, is_thing = rng.normal(size=(7, 120, 160)) * 3, np.ones(7)
    decoded = native.decode(logits, is_thing, [maps[0]], [maps[1]], [8], (480, 640), 0.05, 500, "product")
    image = rng.integers(0, 256, (150, 210, 3), dtype=np.uint8)
    resized = native.resize_normalize(image, (300, 333), (320, 352), (1, 2, 3), (4, 5, 6))
    return [one_class, many_classes, *decoded, resized]


def all_equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_calls_from_many_threads():
    seeds = list(range(4)) * 8
    expected = [run_ops(seed) for seed in range(4)]
    with ThreadPoolExecutor(16) as executor:
        for seed, got in zip(seeds, executor.map(run_ops, seeds), strict=True):
            assert all_equal(got, expected[seed])


@pytest.mark.parametrize("count", [1, 3, 16])
def test_the_number_of_threads_changes_nothing(count):
    expected = run_ops(0)
    library.set_num_threads(count)
    assert library.num_threads() == count
    assert all_equal(run_ops(0), expected)


def _run_in_child(results: "multiprocessing.SimpleQueue[bool]", expected: list[np.ndarray]) -> None:
    results.put(all_equal(run_ops(1), expected))


def test_a_forked_child_has_threads_of_its_own():
    expected = run_ops(1)  # the parent's pool runs; its threads do not survive the fork
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_run_in_child, args=(results, expected))
    child.start()
    child.join(timeout=60)
    hung = child.is_alive()
    child.kill()
    assert not hung
    assert child.exitcode == 0
    assert results.get()
    assert all_equal(run_ops(1), expected)


@pytest.mark.parametrize("count", [0, -1])
def test_bad_number_of_threads_is_named(count):
    with pytest.raises(ValueError, match=f"num_threads: expected at least 1, got {count}"):
        library.set_num_threads(count)
    assert library.num_threads() == 2
