import pytest
import torch

from lpsnet import native, ops
from lpsnet.ops import reference


def random_boxes(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(n, 2, generator=g) * 100, torch.rand(n, 2, generator=g) * 60
    scores = (torch.rand(n, generator=g) * 20).round() / 20  # ties on purpose
    return torch.cat([corner, corner + size], 1), scores, torch.randint(0, 3, (n,), generator=g, dtype=torch.int32)


@pytest.mark.parametrize("n", [0, 1, 2, 50, 300])
@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("max_kept", [1, 40, 400])
def test_equals_reference(n, iou_threshold, max_kept):
    boxes, scores, labels = random_boxes(n, seed=n)
    expected = reference.nms(boxes, scores, labels, iou_threshold, max_kept)
    kept, num_kept = ops.nms(boxes, scores, labels, None, iou_threshold, max_kept)
    assert kept.tolist() == expected + [-1] * (max_kept - len(expected))
    assert num_kept.item() == len(expected)
    assert native.nms(boxes.numpy(), scores.numpy(), labels.numpy(), iou_threshold, max_kept).tolist() == expected


def test_bad_threshold_is_named():
    with pytest.raises(ValueError, match=r"iou_threshold: expected a number in \[0, 1\], got 1.5"):
        ops.nms(*random_boxes(4, seed=0), None, 1.5, 4)


def test_opcheck_and_compile():
    args = (*random_boxes(30, seed=2), torch.tensor([20], dtype=torch.int32), 0.5, 10)
    torch.library.opcheck(torch.ops.lpsnet.nms.default, args)
    assert torch.equal(torch.compile(ops.nms, fullgraph=True, backend="aot_eager")(*args)[0], ops.nms(*args)[0])
