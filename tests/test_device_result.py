import numpy as np
import pytest
import torch

from lpsnet.engine.result_layout import ResultLayout


@pytest.mark.parametrize(("classes", "most", "size"), [(5, 100, (7, 9)), (1, 0, (1, 1)), (133, 3, (64, 64))])
def test_fields_share_a_block_without_overlap(classes, most, size):
    layout = ResultLayout(classes, most, size)
    block = torch.full((layout.words,), -7, dtype=torch.int32)
    fields = layout.tensors(block)
    rows = most + classes
    assert [tuple(f.shape) for f in fields] == [
        *((most, 4), (most,), (most,), (1,), size),
        *((rows,), (rows,), (rows,), (rows, 4), (1,)),
    ]
    reals = {name for name, field in fields._asdict().items() if field.dtype == torch.float32}
    assert reals == {"boxes", "scores", "segment_scores"}
    for number, field in enumerate(fields):
        assert field.is_contiguous()
        assert field.storage_offset() % 64 == 0
        field.fill_(number)
    for number, field in enumerate(fields):  # none wrote over another
        assert (field == number).all()
    for array, field in zip(layout.arrays(block.numpy()), fields, strict=True):
        assert np.array_equal(array, field.numpy())
        assert array.dtype == field.numpy().dtype


def test_less_than_no_detections_is_for_the_operator_to_refuse():
    assert ResultLayout(5, -1, (7, 9)).words == ResultLayout(5, 0, (7, 9)).words
