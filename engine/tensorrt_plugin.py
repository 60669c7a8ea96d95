"""`DeformConv` as a plugin of TensorRT: the operator of the ONNX file, computed by liblpsnet."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lpsnet.native.fused_deform_conv2d import DeformConv2dParams, params_of
from lpsnet.native.library import BFLOAT16, CUDA, FLOAT16, FLOAT32, call, workspace_size

NAME, VERSION = "LpsnetDeformConv", "1"
"""Of the plugin, and of the operator in a network that is to be parsed. For what it does not know, the parser looks for
a plugin of that name; for `DeformConv` some versions take one of NVIDIA's, whatever else there is."""


@dataclass(frozen=True)
class DeformConv:
    """The attributes of the ONNX operator, under their names there.

    Raises:
        ValueError: what liblpsnet has no code for: groups, pads that differ at opposite sides.
    """

    kernel_shape: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    offset_group: int = 1

    def __post_init__(self) -> None:
        if self.group != 1:
            raise ValueError(f"{NAME}: group: expected 1, got {self.group}")
        if self.pads[:2] != self.pads[2:]:
            raise ValueError(f"{NAME}: pads: expected the same at opposite sides, got {list(self.pads)}")

    @classmethod
    def of(cls, values: Mapping[str, Sequence[int]]) -> "DeformConv":
        """From attributes by name; those missing have their defaults. Raises ValueError for a number of values that
        does not fit."""
        given: dict[str, Any] = {}
        for field, count in zip(fields(cls), (2, 2, 4, 2, 1, 1), strict=True):
            if len(found := [int(v) for v in values.get(field.name, ())]) == count:
                given[field.name] = found[0] if count == 1 else tuple(found)
            elif found or field.name == "kernel_shape":
                raise ValueError(f"{NAME}: {field.name}: expected {count} integers, got {found}")
        return cls(**given)

    def values(self) -> dict[str, list[int]]:
        """The inverse of `of`."""
        return {
            field.name: [value] if isinstance(value := getattr(self, field.name), int) else list(value)
            for field in fields(self)
        }

    def params(
        self, dtype: int, input: Sequence[int], weight: Sequence[int], offset: Sequence[int], modulated: bool
    ) -> DeformConv2dParams:
        """Those of ``lps_deform_conv2d``, from the shapes that the ONNX operator names: [N, C, H, W], [O, C, kh, kw],
        [N, 2 taps, Ho, Wo]."""
        geometry = self.strides, self.pads[:2], self.dilations, self.offset_group
        return params_of(dtype, input, weight, offset[2:], *geometry, modulated)

    def enqueue(
        self,
        params: DeformConv2dParams,
        inputs: Sequence[int],
        output: int,
        device: int = CUDA,
        stream: int = 0,
        workspace: int = 0,
    ) -> None:
        """Starts the convolution on a stream.

        Args:
            params: see `params`.
            inputs: addresses in the order of the operator: input, weight, offset, bias and, where it is modulated,
                mask. Input, weight and output are channels last; offset, bias and mask are float32.
            output: address.
            device: of the addresses.
            stream: of the device.
            workspace: of the size that liblpsnet asks for.

        Raises:
            ValueError, RuntimeError: see `lpsnet.native.library.call`.
        """
        image, weight, offset, bias, *mask = inputs
        size = workspace_size("deform_conv2d", params, device)
        pointers = (image, offset, mask[0] if mask else None, weight, bias, output)
        call(
            "deform_conv2d",
            params,
            *pointers,
            device=device,
            stream=stream,
            workspace=workspace,
            workspace_size=size,
        )


def register_deform_conv(trt: Any) -> None:
    """Makes the plugin known to TensorRT in this process, once: before a network with deformable convolutions is
    parsed, and before an engine with them is loaded.

    Raises:
        RuntimeError: another plugin of that name is there already.
    """
    with _LOCK:
        if trt in _CREATORS:
            return
        creator = _creator_class(trt)()
        if not trt.get_plugin_registry().register_creator(creator, ""):
            raise RuntimeError(f"TensorRT: expected no other plugin {NAME}, version {VERSION}, got one")
        _CREATORS[trt] = creator


_LOCK = threading.Lock()
_CREATORS: dict[Any, Any] = {}
"""TensorRT holds no reference to what is registered."""


def _plugin_class(trt: Any) -> type:
    dtypes = {
        trt.DataType.FLOAT: FLOAT32,
        trt.DataType.HALF: FLOAT16,
        trt.DataType.BF16: BFLOAT16,
    }
    channels_last = {
        trt.DataType.FLOAT: trt.TensorFormat.HWC,
        trt.DataType.HALF: trt.TensorFormat.HWC8,
        trt.DataType.BF16: trt.TensorFormat.HWC8,
    }
    input, weight, offset = 0, 1, 2

    class Plugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
        """See NVIDIA's documentation of IPluginV3, whose methods these are."""

        def __init__(self, conv: DeformConv) -> None:
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)
            self.conv = conv
            self.plugin_name, self.plugin_version, self.plugin_namespace = NAME, VERSION, ""
            self.num_outputs = 1
            self._fields = [  # TensorRT is handed addresses
                trt.PluginField(name, np.array(values, np.int32), trt.PluginFieldType.INT32)
                for name, values in conv.values().items()
            ]

        def clone(self) -> "Plugin":
            return Plugin(self.conv)

        def get_capability_interface(self, type: Any) -> "Plugin":
            return self

        def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
            return [input_types[input]]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Any, builder: Any) -> list[Any]:
            image, weights, offsets = inputs[input], inputs[weight], inputs[offset]
            return [trt.DimsExprs([image[0], weights[0], offsets[2], offsets[3]])]

        def supports_format_combination(self, position: int, in_out: Sequence[Any], num_inputs: int) -> bool:
            tensor, first = in_out[position].desc, in_out[input].desc
            if position in (input, weight, num_inputs):
                return (
                    tensor.type == first.type
                    and tensor.type in channels_last
                    and tensor.format == channels_last[tensor.type]
                )
            return tensor.type == trt.DataType.FLOAT and tensor.format == trt.TensorFormat.LINEAR

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            pass

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            pass

        def attach_to_context(self, context: Any) -> "Plugin":
            return self.clone()

        def set_tactic(self, tactic: int) -> None:
            pass

        def get_valid_tactics(self) -> list[int]:
            return []

        def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
            descriptions = [i.desc for i in inputs]
            largest = [tuple(i.max) for i in inputs]
            return workspace_size("deform_conv2d", self._params(descriptions, largest), CUDA)

        def get_fields_to_serialize(self) -> Any:
            return trt.PluginFieldCollection(self._fields)

        def enqueue(
            self,
            inputs: Sequence[Any],
            outputs: Sequence[Any],
            input_pointers: Sequence[int],
            output_pointers: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            params = self._params(inputs, [tuple(i.dims) for i in inputs])
            self.conv.enqueue(params, list(input_pointers), output_pointers[0], CUDA, stream, workspace or 0)

        def _params(self, descriptions: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> DeformConv2dParams:
            dtype = dtypes[descriptions[input].type]
            return self.conv.params(dtype, shapes[input], shapes[weight], shapes[offset], len(shapes) > 4)

    return Plugin


def _creator_class(trt: Any) -> type:
    plugin = _plugin_class(trt)

    class Creator(trt.IPluginCreatorV3One):
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = NAME, VERSION, ""
            self.field_names = trt.PluginFieldCollection(
                [trt.PluginField(f.name, np.array([], np.int32), trt.PluginFieldType.INT32) for f in fields(DeformConv)]
            )

        def create_plugin(self, name: str, collection: Any, phase: Any) -> Any:
            return plugin(DeformConv.of({field.name: np.ravel(field.data).tolist() for field in collection}))

    return Creator
