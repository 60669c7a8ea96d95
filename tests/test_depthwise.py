import pytest
import torch

from lpsnet.models.depthwise import mixed_depthwise_conv2d
from lpsnet.models.efficientnet_lite import SameConv2d


def gradients(function, x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = function(x, w)
    y.backward(torch.sin(torch.arange(y.numel())).view_as(y).to(y.dtype))
    return y.detach(), x.grad, w.grad


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_equals_the_convolution_in_double_precision(kernel: int, stride: int):
    generator = torch.Generator().manual_seed(kernel * stride)
    # Values that bfloat16 holds exactly: what differs is rounding of results alone.
    x = torch.randint(-4, 5, (2, 7, 11, 9), generator=generator).float()
    w = torch.randint(-4, 5, (7, 1, kernel, kernel), generator=generator).float()
    padding = kernel // 2 if stride == 1 else 0
    with torch.autocast("cpu", torch.bfloat16):
        y, dx, dw = gradients(lambda x, w: mixed_depthwise_conv2d(x, w, stride, padding), x, w)
    exact = gradients(lambda x, w: torch.conv2d(x, w, None, stride, padding, 1, 7), x.double(), w.double())
    assert y.dtype == torch.bfloat16
    assert dx.dtype == dw.dtype == torch.float32
    for got, true in zip((y, dx, dw), exact, strict=True):
        torch.testing.assert_close(got.double(), true, rtol=2e-2, atol=2e-2 * true.abs().max().item())


def test_layers_use_it_under_autocast_alone():
    layer = SameConv2d(6, 6, 5, 1, groups=6)
    x = torch.randn(1, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    assert "Mixed" not in type(layer(x).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert "Mixed" in type(y.grad_fn).__name__
    torch.testing.assert_close(y.float(), layer(x), rtol=3e-2, atol=3e-2)


def test_no_gradient_is_computed_for_an_input_that_needs_none():
    w = torch.randn(3, 1, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        mixed_depthwise_conv2d(torch.randn(1, 3, 5, 5), w, 1, 1).sum().backward()
    assert w.grad is not None
