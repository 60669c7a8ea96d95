import pytest
import torch
import torch.nn.functional as F

from lpsnet.config import LossConfig
from lpsnet.losses import BatchTargets, Normalizers, dice_loss, giou_loss, losses, semantic_loss, upsampled_log_softmax
from lpsnet.structures import DenseOutputs


def slow_giou(a: list[float], b: list[float]) -> float:
    """GIoU of two boxes around the origin, from its paper."""
    boxes = [(-x[0], -x[1], x[2], x[3]) for x in (a, b)]
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = boxes
    inter = (min(ax2, bx2) - max(ax1, bx1)) * (min(ay2, by2) - max(ay1, by1))
    hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    union = sum(areas) - inter
    return inter / union - (hull - union) / hull


def test_giou_equals_the_definition():
    generator = torch.Generator().manual_seed(0)
    predicted, true = torch.rand(50, 4, generator=generator) * 30, torch.rand(50, 4, generator=generator) * 30
    expected = [1 - slow_giou(p, t) for p, t in zip(predicted.tolist(), true.tolist(), strict=True)]
    assert giou_loss(predicted, true).tolist() == pytest.approx(expected, abs=1e-4)
    assert giou_loss(true, true).abs().max() < 1e-6


def outputs_and_targets(positive: bool) -> tuple[DenseOutputs, BatchTargets]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 12), (4, 6)]
    outputs = DenseOutputs(
        torch.randn(2, 5, 16, 24, generator=generator, requires_grad=True),
        tuple(torch.rand(2, 4, h, w, generator=generator).requires_grad_() for h, w in shapes),
        tuple(torch.randn(2, h, w, generator=generator).requires_grad_() for h, w in shapes),
    )
    labels = torch.randint(0, 5, (2, 64, 96), generator=generator, dtype=torch.uint8)
    labels[:, :10] = 255
    targets = BatchTargets(
        labels,
        tuple((torch.rand(2, h, w, generator=generator) < 0.3) & positive for h, w in shapes),
        tuple(torch.rand(2, 4, h, w, generator=generator) for h, w in shapes),
        tuple(torch.rand(2, h, w, generator=generator) for h, w in shapes),
    )
    return outputs, targets


def test_losses_equal_plain_loops():
    outputs, targets = outputs_and_targets(positive=True)
    config = LossConfig(semantic=0.7, giou=2.0, borderness=0.5)
    giou = weight = bce = count = 0.0
    for ltrb, b, positive, true_ltrb, true_b in zip(
        outputs.ltrb, outputs.borderness, targets.positive, targets.ltrb, targets.borderness, strict=True
    ):
        for n, i, j in positive.nonzero().tolist():
            w = true_b[n, i, j].item()
            giou += w * (1 - slow_giou(ltrb[n, :, i, j].tolist(), true_ltrb[n, :, i, j].tolist()))
            bce += F.binary_cross_entropy(b[n, i, j].sigmoid(), true_b[n, i, j]).item()
            weight, count = weight + w, count + 1
    full = F.interpolate(outputs.logits, (64, 96), mode="bilinear", align_corners=False).log_softmax(1)
    picked = [
        -full[n, label, i, j].item()
        for n, plane in enumerate(targets.labels.tolist())
        for i, row in enumerate(plane)
        for j, label in enumerate(row)
        if label != 255
    ]
    result = losses(outputs, targets, config)
    assert result["giou"].item() == pytest.approx(2.0 * giou / weight, rel=1e-4)
    assert result["borderness"].item() == pytest.approx(0.5 * bce / count, rel=1e-4)
    assert result["semantic"].item() == pytest.approx(0.7 * sum(picked) / len(picked), rel=1e-4)


def test_nothing_to_learn_gives_zero_and_finite_gradients():
    outputs, targets = outputs_and_targets(positive=False)
    result = losses(outputs, targets, LossConfig())
    assert result["giou"].item() == result["borderness"].item() == 0.0
    torch.stack(list(result.values())).sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in (outputs.logits, *outputs.ltrb, *outputs.borderness))
    void = torch.full((2, 64, 96), 255, dtype=torch.uint8)
    assert semantic_loss(upsampled_log_softmax(outputs.logits, void), void).item() == 0.0
    assert dice_loss(upsampled_log_softmax(outputs.logits, void), void).item() == 0.0


def test_dice_equals_plain_loops():
    generator = torch.Generator().manual_seed(2)
    logs = torch.randn(2, 4, 6, 5, generator=generator).log_softmax(1)
    labels = torch.randint(0, 3, (2, 6, 5), generator=generator, dtype=torch.uint8)
    labels[0, :3] = 255
    labels[1][labels[1] == 2] = 0
    terms = []
    for n in range(2):
        valid = [(i, j) for i in range(6) for j in range(5) if labels[n, i, j] != 255]
        for c in range(4):
            true = [labels[n, i, j] == c for i, j in valid]
            p = [logs[n, c, i, j].exp().item() for i, j in valid]
            if any(true):
                terms.append(1 - 2 * sum(x for x, t in zip(p, true, strict=True) if t) / (sum(p) + sum(true)))
    assert len(terms) == 5
    assert dice_loss(logs, labels).item() == pytest.approx(float(sum(terms)) / 5, rel=1e-5)


def test_dice_is_a_loss_only_where_it_has_a_weight():
    outputs, targets = outputs_and_targets(positive=True)
    assert "dice" not in losses(outputs, targets, LossConfig())
    once, twice = (losses(outputs, targets, LossConfig(dice=w))["dice"].item() for w in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)
    assert 0 < once < 1


def test_dice_is_zero_for_the_truth_and_has_gradients():
    labels = torch.randint(0, 3, (1, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    logits = (40 * F.one_hot(labels.long(), 3).permute(0, 3, 1, 2).float()).requires_grad_()
    loss = dice_loss(logits.log_softmax(1), labels)
    loss.backward()
    assert loss.item() < 1e-6
    assert torch.isfinite(logits.grad).all()


def test_the_losses_of_parts_add_up_to_those_of_the_whole():
    outputs, targets = outputs_and_targets(positive=True)
    config = LossConfig(dice=1.0)
    whole = losses(outputs, targets, config)
    added: dict[str, float] = dict.fromkeys(whole, 0.0)
    for part in (slice(0, 1), slice(1, 2)):
        part_outputs = DenseOutputs(
            outputs.logits[part], tuple(t[part] for t in outputs.ltrb), tuple(t[part] for t in outputs.borderness)
        )
        part_targets = BatchTargets(
            targets.labels[part],
            *(tuple(t[part] for t in levels) for levels in (targets.positive, targets.ltrb, targets.borderness)),
        )
        for name, value in losses(part_outputs, part_targets, config, Normalizers.of(targets)).items():
            added[name] += value.item()
    assert added == {name: pytest.approx(value.item(), rel=1e-5) for name, value in whole.items()}
