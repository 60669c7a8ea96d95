"""From the dense network in ONNX to an engine, by TensorRT or TensorRT-RTX."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpsnet import atomic
from lpsnet.artifact import DENSE_INPUT, Precision, dense_outputs
from lpsnet.engine.gpus import gpus
from lpsnet.engine.tensorrt_library import Messages, import_tensorrt, logger_of, one_line
from lpsnet.engine.tensorrt_plugin import register_deform_conv
from lpsnet.engine_file import Flavour, SizeRange

from .tensorrt_progress import BuildProgress, new_monitor

DEFAULT_TARGETS = ("sm86", "sm89", "sm120")
"""Of TensorRT-RTX: the GeForce and RTX generations from Ampere on."""
_NO_TARGETS = ("CURRENT", "NONE")


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    Attributes:
        flavour: of TensorRT.
        sizes: of the network's input, for which the engine is planned.
        targets: of TensorRT-RTX: the compute capabilities to build for; none takes the default. TensorRT builds for the
            GPU of this machine.
        timing_cache: of TensorRT: a file with what was measured in earlier builds, which is read and written.

    Raises:
        ValueError: what is for the other flavour alone.
    """

    flavour: Flavour
    sizes: SizeRange
    targets: tuple[str, ...] = ()
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.flavour == "tensorrt" and self.targets:
            got = " ".join(self.targets)
            raise ValueError(f"target: expected none for tensorrt, which builds for the GPU of this machine, got {got}")
        if self.flavour == "tensorrt-rtx" and self.timing_cache is not None:
            raise ValueError(
                f"timing-cache: expected none for tensorrt-rtx, which measures nothing, got {self.timing_cache}"
            )


@dataclass(frozen=True)
class Built:
    """An engine.

    Attributes:
        engine: as TensorRT serialised it.
        version: of TensorRT.
        targets: compute capabilities of the GPUs that run it.
        gpu: the name of that which it was built on; empty where it was built ahead of time.
    """

    engine: bytes
    version: str
    targets: tuple[str, ...]
    gpu: str


def expect_buildable(options: BuildOptions) -> tuple[tuple[str, ...], str]:
    """The targets of an engine, and the name of the GPU that it is built on or nothing.

    Raises:
        ImportError: TensorRT is not installed or does not load.
        ValueError: a target that it does not know.
        RuntimeError: no GPU where one is needed.
        FileNotFoundError: no folder for the timing cache.
    """
    trt = import_tensorrt(options.flavour)
    if options.timing_cache is not None and not options.timing_cache.parent.is_dir():
        raise FileNotFoundError(f"{options.timing_cache}: expected a file in a folder that exists")
    if options.flavour == "tensorrt-rtx":
        return _expect_targets(trt, options.targets or DEFAULT_TARGETS), ""
    found = gpus()
    if not found:
        raise RuntimeError(
            "tensorrt: expected a GPU, on which it measures what it builds, got none; tensorrt-rtx needs none"
        )
    return (found[0].target,), found[0].name


def build(
    network: bytes, precision: Precision, has_deform_conv: bool, options: BuildOptions, progress: BuildProgress
) -> Built:
    """Builds an engine. Every tensor keeps the type that it has in the file.

    Args:
        network: the ONNX file of a dense network, after `tensorrt_network.prepare_deform_convs`.
        precision: fp32 does without TF32.
        has_deform_conv: it needs our plugin.
        options: see there.
        progress: is told how far it is.

    Raises:
        ImportError, ValueError, RuntimeError, FileNotFoundError: see `expect_buildable`.
        ValueError: a network that it does not take, a file that is no timing cache.
        RuntimeError: a build that failed, with TensorRT's reason.
        OSError: the timing cache cannot be read or written.
        KeyboardInterrupt: the user ended it.
    """
    trt = import_tensorrt(options.flavour)
    logger, messages = logger_of(trt)
    messages.take()
    targets, gpu = expect_buildable(options)
    if has_deform_conv:
        register_deform_conv(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError:  # what the bindings make of a null pointer
        raise RuntimeError(f"{options.flavour}: expected its builder to start, got: {messages.take()}") from None
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(network):
        raise ValueError(f"model: expected a network that {options.flavour} takes, got: {_parser_error(parser)}")
    _expect_signature(definition)
    config = builder.create_builder_config()
    _add_profile(builder, config, options.sizes)
    if options.flavour == "tensorrt-rtx":
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    monitor = new_monitor(trt, progress)
    config.progress_monitor = monitor
    if options.timing_cache is not None:
        _read_cache(config, options.timing_cache, messages)
    engine = builder.build_serialized_network(definition, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if engine is None:
        raise RuntimeError(f"{options.flavour}: expected an engine, got: {messages.take()}")
    if options.timing_cache is not None:
        atomic.write_bytes(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return Built(bytes(engine), trt.__version__, targets, gpu)


def _expect_targets(trt: Any, targets: Sequence[str]) -> tuple[str, ...]:
    known = sorted(
        (name.lower() for name in trt.ComputeCapability.__members__ if name not in _NO_TARGETS),
        key=lambda name: int(name.removeprefix("sm")),
    )
    for target in targets:
        if target not in known:
            raise ValueError(f"target: expected some of {', '.join(known)}, got {target!r}")
    return tuple(dict.fromkeys(targets))


def _parser_error(parser: Any) -> str:
    error = parser.get_error(0)
    place = f"{error.node_operator()} {error.node_name()}".strip()
    return f"{one_line(error.desc())}{f' ({place})' if place else ''}"


def _expect_signature(definition: Any) -> None:
    inputs = [definition.get_input(i).name for i in range(definition.num_inputs)]
    outputs = [definition.get_output(i).name for i in range(definition.num_outputs)]
    if inputs != [DENSE_INPUT] or sorted(outputs) != sorted(dense_outputs()):
        raise ValueError(f"model: expected a dense network, got one from {inputs} to {outputs}")


def _add_profile(builder: Any, config: Any, sizes: SizeRange) -> None:
    profile = builder.create_optimization_profile()
    profile.set_shape(DENSE_INPUT, *((1, 3, *size) for size in (sizes.smallest, sizes.best, sizes.largest)))
    config.add_optimization_profile(profile)


def _read_cache(config: Any, path: Path, messages: Messages) -> None:
    """Takes what earlier builds measured. TensorRT passes over what it cannot use, which would then be written over."""
    content = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        raise ValueError(f"{path}: expected a timing cache of this TensorRT and GPU, got: {messages.take()}")
    nothing = bytes(config.create_timing_cache(b"").serialize())
    if content not in (b"", nothing) and bytes(cache.serialize()) == nothing:
        raise ValueError(
            f"{path}: expected a timing cache of this TensorRT, got {len(content)} bytes of something else"
        )
