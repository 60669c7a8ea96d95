"""Deformable convolution, v1 and v2, as a torch operator with a backward.

The forward of 16-bit numbers, and on a GPU, is one kernel; see `lpsnet.ops.fused_deform_conv2d`. Else the library
gathers the columns of a tile of output positions and torch multiplies them with the weight; the backward always does,
and gathers them again instead of keeping them. So they never take more than `native.deform_columns.TILE_BYTES`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lpsnet.native.deform_columns import DeformColumnsParams, check_shapes, pair, tile_positions, tiles
from lpsnet.native.library import FLOAT32, FLOAT64
from lpsnet.ops.device import call
from lpsnet.ops.fused_deform_conv2d import can_fuse, fuse


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    mask: Tensor | None = None,
    offset_groups: int = 1,
) -> Tensor:
    """Deformable convolution: v1 (Dai et al. 2017) or, with a mask, v2 (Zhu et al. 2019). ONNX calls it DeformConv.

    Output position (i, j) sees, at kernel tap (a, b), the input at ``y = i * stride - padding + a * dilation + dy`` and
    x likewise, read bilinearly (pixel (i, j) is at (i, j)) from an image that is zero outside, times its mask.

    A sample at y <= -1, y >= H, x <= -1, x >= W, or with a NaN offset, is 0 whatever its mask, and passes no gradient
    on. A corner whose bilinear weight is 0 counts as 0 even where the input is infinite or NaN.

    The forward of bfloat16 and float16, and of float32 on a GPU, is one kernel where there are no groups. It rounds
    each sample and the weight to the input's dtype, adds the products up in float32 and takes no memory, except for
    copies of what is not in channels-last memory. It is bit-equal over runs. On a GPU, 16 bits use tensor cores where
    C / offset_groups is a multiple of 8.

    Otherwise, and in the backward, columns and their products take at most 48 MiB. Besides, one image at a time is
    converted, and its gradient, where it is not in channels-last memory and of the dtype of the computation. On a CPU
    the gradients to input, offset and mask are bit-equal over runs and numbers of threads, given that torch's matrix
    products are.

    Args:
        input: [N, C, H, W]. float64 computes in float64, with every tensor being float64; float32, bfloat16 and
            float16 compute in float32, where each of the others may be any of these three. Autocast changes nothing.
        offset: [N, offset_groups * kh * kw * 2 (dy, dx), Ho, Wo], input pixels.
        weight: [O, C / groups, kh, kw], which tells the number of groups.
        bias: [O] or None.
        stride, padding, dilation: one integer or (vertical, horizontal).
        mask: [N, offset_groups * kh * kw, Ho, Wo] or None (v1).
        offset_groups: each of so many groups of channels has offsets and masks of its own.

    Returns:
        [N, O, Ho, Wo] with the input's dtype and memory format.

    Raises:
        ValueError: a shape or a dtype that does not fit.
    """
    return _forward(
        input, offset, weight, bias, list(pair(stride)), list(pair(padding)), list(pair(dilation)), mask, offset_groups
    )


@torch.library.custom_op("lpsnet::deform_conv2d", mutates_args=())
def _forward(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Tensor | None,
    offset_groups: int,
) -> Tensor:
    out = _output(input, offset, weight, bias, stride, padding, dilation, mask, offset_groups)
    write = fuse if can_fuse(input, weight) else by_columns
    write(out, input, offset, weight, bias, stride, padding, dilation, mask, offset_groups)
    return out


def by_columns(
    out: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Tensor | None,
    offset_groups: int,
) -> None:
    """Writes the convolution into ``out``, [N, O, Ho, Wo] with the input's dtype, by columns and matrix products.

    The other arguments are those of `deform_conv2d`, checked.
    """
    work = _Work(input, offset, weight, mask, out.shape[2:], stride, padding, dilation, offset_groups)
    biases = [None] * work.groups if bias is None else bias.to(work.dtype).chunk(work.groups)
    columns = work.new_columns()
    for n in range(len(input)):
        result = out[n].view(work.groups, -1, out.shape[2] * out.shape[3])
        image = work.image(n)
        for begin, end in tiles(work.params, weight.shape):
            tile = columns[: end - begin]
            call("deform_columns", work.params, *image, tile)
            for group, matrix in work.by_group(tile):
                # The product as a 1 x 1 convolution in channels-last memory: faster on the CPU than torch.matmul.
                pixels = matrix.view(1, 1, *matrix.shape).permute(0, 3, 1, 2)
                filters = work.matrices[group][:, :, None, None]
                with torch.autocast(out.device.type, enabled=False):
                    product = F.conv2d(pixels, filters, biases[group])
                result[group, :, begin:end] = product[0, :, 0]


@_forward.register_fake
def _output(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Tensor | None,
    offset_groups: int,
) -> Tensor:
    bias_shape, mask_shape = (None if t is None else t.shape for t in (bias, mask))
    out_size = check_shapes(
        input.shape, offset.shape, weight.shape, bias_shape, mask_shape, stride, padding, dilation, offset_groups
    )
    single = (torch.float32, torch.bfloat16, torch.float16)
    if input.dtype not in (torch.float64, *single):
        raise ValueError(f"input: expected a floating-point tensor, got {input.dtype}")
    allowed = single if input.dtype in single else (torch.float64,)
    for name, tensor in (("offset", offset), ("weight", weight), ("bias", bias), ("mask", mask)):
        if tensor is not None and tensor.dtype not in allowed:
            raise ValueError(f"{name}: expected {' or '.join(map(str, allowed))}, got {tensor.dtype}")
        if tensor is not None and tensor.device != input.device:
            raise ValueError(f"{name}: expected a tensor on {input.device}, got {tensor.device}")
    return _empty_like_format(input, (input.shape[0], weight.shape[0], *out_size))


@torch.library.custom_op("lpsnet::deform_conv2d_backward", mutates_args=())
def _backward(
    grad: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Tensor | None,
    offset_groups: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of input, offset, weight and mask (empty without one), each with the dtype of what it belongs to."""
    grads = _gradients(grad, input, offset, weight, stride, padding, dilation, mask, offset_groups)
    grad_input, grad_offset, grad_weight, grad_mask = grads
    work = _Work(input, offset, weight, mask, grad.shape[2:], stride, padding, dilation, offset_groups)
    matrix_grads = work.matrices.new_zeros(work.matrices.mT.shape)  # transposed: the faster product
    columns = work.new_columns()
    for n in range(len(input)):
        image = work.image(n)
        targets = grad_input[n].permute(1, 2, 0), grad_offset[n], None if mask is None else grad_mask[n]
        buffers = [None if target is None else work.buffer(target).zero_() for target in targets]
        incoming = grad[n].to(work.dtype).reshape(work.groups, -1, grad.shape[2] * grad.shape[3])
        for begin, end in tiles(work.params, weight.shape):
            tile = columns[: end - begin]
            call("deform_columns", work.params, *image, tile)
            for group, matrix in work.by_group(tile):
                out_grad = incoming[group, :, begin:end]
                matrix_grads[group].addmm_(matrix.t(), out_grad.t())
                # From here on the buffer holds the gradients of the columns.
                torch.mm(out_grad.t(), work.matrices[group], out=matrix)
                if work.groups > 1:
                    tile[:, :, group] = matrix.view(tile[:, :, group].shape)
            call("deform_columns_backward", work.params, *image, tile, *buffers)
        for target, buffer in zip(targets, buffers, strict=True):
            if target is not None and buffer is not None and buffer is not target:
                target.copy_(buffer)
    weight_grad = matrix_grads.mT.reshape(len(weight), *weight.shape[2:], weight.shape[1])
    grad_weight.copy_(weight_grad.permute(0, 3, 1, 2))
    return grads


@_backward.register_fake
def _gradients(
    grad: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Tensor | None,
    offset_groups: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_mask = offset.new_empty(0) if mask is None else mask.new_empty(mask.shape)
    return (
        _empty_like_format(input, input.shape),
        offset.new_empty(offset.shape),
        weight.new_empty(weight.shape),
        grad_mask,
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, offset, weight, bias, stride, padding, dilation, mask, offset_groups = inputs
    ctx.save_for_backward(input, offset, weight, mask)
    ctx.geometry = stride, padding, dilation
    ctx.offset_groups = offset_groups
    ctx.bias_dtype = None if bias is None else bias.dtype


def _autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    input, offset, weight, mask = ctx.saved_tensors
    grad_input, grad_offset, grad_weight, grad_mask = _backward(
        grad, input, offset, weight, *ctx.geometry, mask, ctx.offset_groups
    )
    grad_bias = None if ctx.bias_dtype is None else grad.sum((0, 2, 3)).to(ctx.bias_dtype)
    return grad_input, grad_offset, grad_weight, grad_bias, None, None, None, None if mask is None else grad_mask, None


_forward.register_autograd(_autograd, setup_context=_setup_context)


class _Work:
    """What forward and backward share: the params, the weight as matrices, and the images as the library reads them.

    Attributes:
        dtype: of the computation.
        matrices: [groups, O / groups, kh * kw * C / groups], contiguous.
    """

    def __init__(
        self,
        input: Tensor,
        offset: Tensor,
        weight: Tensor,
        mask: Tensor | None,
        out_size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        offset_groups: int,
    ) -> None:
        self.input, self.offset, self.mask = input, offset, mask
        self.dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
        self.groups = input.shape[1] // weight.shape[1]
        rows = weight.to(self.dtype).permute(0, 2, 3, 1).contiguous()
        self.matrices = rows.view(self.groups, len(weight) // self.groups, rows[0].numel())
        dtype = FLOAT64 if self.dtype == torch.float64 else FLOAT32
        kernel = weight.shape[2:]
        self.params = DeformColumnsParams(
            dtype, *input.shape[1:], *out_size, *kernel, *stride, *padding, *dilation, offset_groups
        )
        self.tile_positions = tile_positions(self.params, weight.shape)

    def new_columns(self) -> Tensor:
        """The buffer for the columns of a tile, [positions, kh * kw, groups, C / groups]."""
        taps = self.params.kernel_h * self.params.kernel_w
        shape = self.tile_positions, taps, self.groups, self.params.channels // self.groups
        return self.input.new_empty(shape, dtype=self.dtype)

    def image(self, n: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Image n as [H, W, C], its offset and its mask; contiguous."""
        image = self.input[n].permute(1, 2, 0)
        buffer = self.buffer(image)
        if buffer is not image:
            buffer.copy_(image)
        mask = None if self.mask is None else self.mask[n].to(self.dtype).contiguous()
        return buffer, self.offset[n].to(self.dtype).contiguous(), mask

    def buffer(self, like: Tensor) -> Tensor:
        """The tensor itself where the library can read or write it, else an empty one of its shape."""
        return (
            like if like.dtype == self.dtype and like.is_contiguous() else like.new_empty(like.shape, dtype=self.dtype)
        )

    def by_group(self, columns: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each group with its part of the columns, [positions, kh * kw * C / groups]; a copy of several groups."""
        for group in range(self.groups):
            yield group, columns[:, :, group].reshape(len(columns), self.matrices.shape[2])


def _empty_like_format(like: Tensor, shape: Sequence[int]) -> Tensor:
    """An empty 4-d tensor of a shape, with the dtype, device and memory format of another one."""
    channels_last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)
