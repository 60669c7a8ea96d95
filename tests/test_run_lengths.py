import numpy as np
from hotcoco import mask
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lpsnet.evaluation.run_lengths import run_lengths


@settings(deadline=None, max_examples=60)
@given(arrays(np.int32, st.tuples(st.integers(0, 7), st.integers(0, 7)), elements=st.integers(0, 4)))
def test_the_runs_of_each_id_decode_to_its_mask(ids):
    runs = run_lengths(ids)
    assert set(runs) == set(np.unique(ids).tolist()) - {0}
    for key, counts in runs.items():
        assert sum(counts) == ids.size
        assert np.array_equal(mask.decode({"size": list(ids.shape), "counts": counts}), ids == key)


def test_a_map_that_is_a_view():
    ids = np.arange(24, dtype=np.int32).reshape(4, 6)[::-1, ::2]
    for key, counts in run_lengths(ids).items():
        assert np.array_equal(mask.decode({"size": list(ids.shape), "counts": counts}), ids == key)
