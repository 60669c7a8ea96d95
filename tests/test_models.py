import copy
import dataclasses
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from lpsnet.config import BOX_STRIDES, RECIPES, ModelConfig, Recipe
from lpsnet.models.context import PyramidPooling, pooling_weights, upsampling_weights
from lpsnet.models.deform import DeformConv2d
from lpsnet.models.lpsnet import FlatLPSNet, LPSNet
from lpsnet.models.norm import LevelNormReLU, build_norm
from lpsnet.models.semantic_head import SemanticHead

SMALL = ModelConfig(
    backbone="efficientnet_lite0",
    fpn_channels=16,
    ppm_channels=8,
    norm="bn",
    norm_groups=4,
    freeze_backbone_norm=False,
    box_channels=16,
    box_layers=2,
    semantic_channels=(16, 8),
    deform="off",
)


def recipe(**fields) -> Recipe:
    return dataclasses.replace(RECIPES["lpsnet_tiny_synthetic"], model=dataclasses.replace(SMALL, **fields))


def network(**fields) -> LPSNet:
    torch.manual_seed(0)
    return LPSNet(recipe(**fields))


def random_images(n: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(7))


def loss(outputs) -> torch.Tensor:
    """Depends on every output; the weights keep it from being symmetric in the channels."""
    weights = torch.linspace(1, 2, outputs.logits.shape[1])[:, None, None]
    maps = [outputs.logits * weights, *outputs.ltrb, *outputs.borderness]
    return torch.stack([m.square().mean() for m in maps]).sum()


@pytest.mark.parametrize(
    ("context", "norm", "deform"), list(itertools.product(("ppm", "gap", "none"), ("gn", "bn"), ("off", "v1", "v2")))
)
def test_every_option_trains_every_parameter(context, norm, deform):
    model = network(context=context, norm=norm, deform=deform).train()
    outputs = model.heads(random_images(2, 96, 160), (90, 130))
    assert tuple(outputs.logits.shape) == (2, len(model.recipe.categories), 24, 40)
    sizes = [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]
    assert [tuple(b.shape) for b in outputs.borderness] == [(2, *size) for size in sizes]
    assert [tuple(d.shape) for d in outputs.ltrb] == [(2, 4, *size) for size in sizes]
    loss(outputs).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "efficientnet_lite2"])
@pytest.mark.parametrize("freeze", [True, False])
@torch.no_grad()
def test_other_backbones(name, freeze):
    outputs = network(backbone=name, freeze_backbone_norm=freeze).eval()(random_images(1, 64, 96))
    assert tuple(outputs.logits.shape) == (1, 6, 16, 24)


@pytest.mark.parametrize("size", [(32, 32), (384, 480), (96, 160), (352, 64)])
@torch.no_grad()
def test_level_sizes_are_rounded_up(size):
    outputs = network().eval()(random_images(1, *size))
    assert tuple(outputs.logits.shape[2:]) == (size[0] // 4, size[1] // 4)
    assert [tuple(b.shape[1:]) for b in outputs.borderness] == [
        tuple(-(-side // stride) for side in size) for stride in BOX_STRIDES
    ]


@torch.no_grad()
def test_forward_is_heads_with_probabilities():
    model = network().eval()
    images = random_images(1, 96, 64)
    outputs, heads = model(images), model.heads(images)
    assert torch.equal(outputs.logits, heads.logits)
    for a, b in zip(outputs.borderness, heads.borderness, strict=True):
        assert torch.equal(a, torch.sigmoid(b))
    for a, b in zip(outputs.ltrb, heads.ltrb, strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_distances_start_alive_and_in_strides():
    outputs = network().eval()(random_images(1, 128, 128))
    for ltrb, stride in zip(outputs.ltrb, BOX_STRIDES, strict=True):
        assert ltrb.min() > 0
        assert 1 < ltrb.mean() / stride < 4


@torch.no_grad()
def test_distances_are_never_negative():
    model = network().eval()
    model.box_head.output.bias.fill_(-3)
    assert all(ltrb.min() == 0 for ltrb in model(random_images(1, 64, 64)).ltrb)


@pytest.mark.parametrize("shape", [(1, 3, 100, 96), (1, 3, 96, 100), (1, 1, 96, 96), (3, 96, 96), (1, 3, 0, 96)])
def test_bad_images_are_named(shape):
    with pytest.raises(ValueError, match=r"images: expected \[N, 3, H, W\] with multiples of 32 .*got \["):
        network()(torch.zeros(shape))


@pytest.mark.parametrize("size", [(97, 10), (10, 97), (0, 10), (10, -1)])
def test_bad_image_sizes_are_named(size):
    with pytest.raises(ValueError, match=r"image_size: expected at most \(96, 96\) and at least \(1, 1\), got \("):
        network()(torch.zeros(1, 3, 96, 96), size)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context": "aspp"}, "context: expected 'ppm', 'gap' or 'none', got 'aspp'"),
        ({"norm": "ln"}, "norm: expected 'gn' or 'bn', got 'ln'"),
        ({"deform": "v3"}, "deform: expected 'v1', 'v2' or 'off', got 'v3'"),
        ({"norm": "gn", "norm_groups": 5}, "norm_groups: expected a divisor of the 16 channels it normalises, got 5"),
    ],
)
def test_bad_options_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        network(**fields)


# Context


@pytest.mark.parametrize(("size", "bins"), list(itertools.product((1, 2, 5, 12, 25), (1, 2, 3, 6))))
def test_pooling_and_upsampling_are_torchs(size, bins):
    x = torch.randn(1, 3, size)
    pooled = functional.adaptive_avg_pool1d(x, bins)
    torch.testing.assert_close(x @ torch.tensor(pooling_weights(size, size, bins)).T, pooled)
    back = functional.interpolate(pooled, size, mode="linear", align_corners=False)
    torch.testing.assert_close(pooled @ torch.tensor(upsampling_weights(size, size, bins)).T, back)


@pytest.mark.parametrize("valid", [1, 3, 6, 7])
def test_matrices_see_the_valid_cells_only(valid):
    pool, up = pooling_weights(9, valid, 3), upsampling_weights(9, valid, 3)
    assert (pool[:, :valid] == pooling_weights(valid, valid, 3)).all()
    assert not pool[:, valid:].any()
    assert (up[:valid] == upsampling_weights(valid, valid, 3)).all()
    assert (up[valid:] == up[valid - 1]).all()


@torch.no_grad()
def test_pyramid_pooling_is_the_literal_definition():
    torch.manual_seed(0)
    ppm = PyramidPooling(SMALL, 12).eval()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        c5 = torch.randn(2, 12, 7, 11).to(memory_format=memory_format)
        parts = [c5]
        for bins, reduce in zip(ppm.bins, ppm.reduce, strict=True):
            pooled = functional.adaptive_avg_pool2d(c5, bins)
            reduced = functional.conv2d(pooled, reduce.weight[:, :, None, None], reduce.bias).relu()
            parts.append(functional.interpolate(reduced, (7, 11), mode="bilinear", align_corners=False))
        expected = ppm.norm(functional.conv2d(torch.cat(parts, 1), ppm.fuse.weight, padding=1)).relu()
        torch.testing.assert_close(ppm(c5, (7, 11)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("context", ["ppm", "gap"])
@torch.no_grad()
def test_context_does_not_see_the_padding(context):
    """Where the 3x3 convolution behind it does not reach over the border of the image, nothing at all changes."""
    module = network(context=context, backbone="efficientnet_lite0").eval().fpn.context
    c5 = torch.randn(1, 320, 4, 5, generator=torch.Generator().manual_seed(1))
    padded = torch.full((1, 320, 6, 8), 1e4)
    padded[:, :, :4, :5] = c5
    alone, inside = module(c5, (4, 5)), module(padded, (4, 5))
    if context == "ppm":
        alone, inside = alone[:, :, :3, :4], inside[:, :, :3, :4]
    torch.testing.assert_close(inside, alone)
    assert not torch.allclose(module(padded, (6, 8))[:, :, :1, :1], alone[:, :, :1, :1])


@torch.no_grad()
def test_image_size_reaches_the_context():
    model = network().eval()
    seen = []
    model.fpn.context.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    images = random_images(1, 96, 160)
    for size in (None, (96, 160), (65, 97), (64, 96), (1, 1)):
        model(images, size)
    assert seen == [(3, 5), (3, 5), (3, 4), (2, 3), (1, 1)]


@torch.no_grad()
def test_context_goes_down_to_p2():
    model = network(context="gap").eval()
    features, valid = model.backbone(random_images(1, 64, 64)), (2, 2)
    with_context = model.fpn(features, valid)
    model.fpn.context = None
    without = model.fpn(features, valid)
    assert not any(torch.allclose(a, b) for a, b in zip(with_context, without, strict=True))


def test_the_pooling_matrices_are_no_state():
    model = network()
    keys = set(model.state_dict())
    model(random_images(1, 64, 64))
    assert set(model.state_dict()) == keys
    assert copy.deepcopy(model)(random_images(1, 64, 64)).logits.shape == (1, 6, 16, 16)


# Norms shared by levels


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_joint_statistics_of_levels(memory_format):
    torch.manual_seed(0)
    levels = [
        (torch.randn(2, 8, h, w) * scale + shift).to(memory_format=memory_format)
        for h, w, scale, shift in ((6, 9, 1, 0), (3, 5, 3, 2), (1, 1, 0.1, -5))
    ]
    norm = LevelNormReLU(SMALL, 8).train()
    norm.norm.momentum = 1.0
    with torch.no_grad():
        norm.norm.weight.uniform_(0.5, 2)
        norm.norm.bias.uniform_(-1, 1)
    trained = norm(levels)
    pixels = torch.cat([x.permute(1, 0, 2, 3).flatten(1) for x in levels], 1)
    torch.testing.assert_close(norm.norm.running_mean, pixels.mean(1))
    torch.testing.assert_close(norm.norm.running_var, pixels.var(1))
    assert [x.shape for x in trained] == [x.shape for x in levels]
    # What it learnt is what evaluation uses: equal up to Bessel's correction, which is put back here.
    count = pixels.shape[1]
    norm.norm.running_var *= (count - 1) / count
    for a, b in zip(trained, norm.eval()(levels), strict=True):
        torch.testing.assert_close(a, b)


def test_joint_norm_passes_gradients_like_one_map():
    torch.manual_seed(0)
    wide = torch.randn(1, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    norm = LevelNormReLU(SMALL, 4).double().train()
    weights = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    (expected,) = torch.autograd.grad((norm([wide])[0] * weights).sum(), wide)
    left, right = norm([wide[..., :2], wide[..., 2:]])
    (got,) = torch.autograd.grad((torch.cat([left, right], 3) * weights).sum(), wide)
    torch.testing.assert_close(got, expected)


def test_group_norm_looks_at_each_level_alone():
    config = dataclasses.replace(SMALL, norm="gn")
    norm = LevelNormReLU(config, 8).train()
    levels = [torch.randn(2, 8, 4, 4), torch.randn(2, 8, 2, 2) + 50]
    for a, x in zip(norm(levels), levels, strict=True):
        torch.testing.assert_close(a, functional.group_norm(x, 4).relu())
    assert isinstance(build_norm(config, 8), nn.GroupNorm)


# Semantic head


@torch.no_grad()
def test_classifying_before_upsampling_is_classifying_the_concatenation():
    torch.manual_seed(0)
    head = SemanticHead(SMALL, 5).eval()
    head.classifiers[0].bias.uniform_(-1, 1)
    levels = [torch.randn(2, 16, 24 >> i, 40 >> i) for i in range(4)]
    x = levels
    for layer, norm in zip(head.layers, head.norms, strict=True):
        x = norm([layer(y) for y in x])
    up = [functional.interpolate(y, (24, 40), mode="bilinear", align_corners=False) for y in x]
    weight = torch.cat([c.weight for c in head.classifiers], 1)
    expected = functional.conv2d(torch.cat(up, 1), weight, head.classifiers[0].bias)
    torch.testing.assert_close(head(levels), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("modulated", [False, True])
@torch.no_grad()
def test_deformable_layer_starts_as_the_plain_one(modulated):
    layer = DeformConv2d(6, 4, modulated)
    x = torch.randn(2, 6, 9, 7)
    plain = functional.conv2d(x, layer.weight, padding=1)
    torch.testing.assert_close(layer(x), plain * (0.5 if modulated else 1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_deformable_layer_follows_its_offsets():
    layer = DeformConv2d(3, 4, modulated=False)
    layer.offset.bias[0::2] = 1  # dy of every tap
    layer.offset.bias[1::2] = -2
    x = torch.randn(1, 3, 8, 8)
    plain = functional.conv2d(x, layer.weight, padding=1)
    torch.testing.assert_close(layer(x)[:, :, 1:6, 4:], plain[:, :, 2:7, 2:6], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_offsets_stay_float32_under_autocast():
    layer = DeformConv2d(3, 4, modulated=True)
    seen = []
    layer.offset.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 3, 8, 8).bfloat16()).dtype == torch.bfloat16
    assert seen == [(torch.float32, torch.float32)]


# Precision, memory format, export


@pytest.mark.parametrize("deform", ["off", "v1"])
@pytest.mark.parametrize("norm", ["gn", "bn"])
def test_bfloat16_training(norm, deform):
    model = network(norm=norm, deform=deform).to(memory_format=torch.channels_last).train()
    images = random_images(2, 64, 96).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.heads(images)
    tensors = (outputs.logits, *outputs.ltrb, *outputs.borderness)
    assert {t.dtype for t in tensors} == {torch.float32}
    loss(outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_channels_last_computes_the_same():
    model = network(deform="v1").eval()
    images = random_images(2, 96, 160)
    expected = FlatLPSNet(model)(images)
    model = model.to(memory_format=torch.channels_last)
    for a, b in zip(FlatLPSNet(model)(images.to(memory_format=torch.channels_last)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("context", "norm", "deform"),
    [("ppm", "bn", "off"), ("ppm", "gn", "v1"), ("gap", "bn", "v2"), ("none", "bn", "off")],
)
@pytest.mark.parametrize("warm", [False, True])
@torch.no_grad()
def test_export_of_the_whole_network(context, norm, deform, warm):
    flat = FlatLPSNet(network(context=context, norm=norm, deform=deform).eval(), (90, 130))
    images = random_images(1, 96, 160)
    if warm:
        flat(images)  # the pooling matrices are there already
    program = torch.export.export(flat, (images,))
    other = random_images(2, 96, 160)[1:]
    for a, b in zip(program.module()(other), flat(other), strict=True):
        torch.testing.assert_close(a, b)
    assert "adaptive" not in str(program.graph)


@torch.no_grad()
def test_tracing_leaves_no_fake_tensors_behind():
    flat = FlatLPSNet(network().eval())
    images = random_images(1, 64, 64)
    expected = copy.deepcopy(flat)(images)
    torch.export.export(flat, (images,))
    assert all(torch.equal(a, b) for a, b in zip(flat(images), expected, strict=True))
