"""Every operator in every dtype and layout on a GPU: the oracle, the CPU, memory, repetition, graphs, streams, waiting.

`make sanitize-gpu` runs those marked as such under compute-sanitizer.
"""

import pytest
import torch
from box_cases import nms_case, paste_boxes_case
from logit_cases import postprocess_case, upsample_argmax_case
from map_cases import resize_normalize_case
from op_case import DTYPES, OpCase, Outputs, on
from op_cases import op_cases
from op_properties import assert_same, assert_same_bits, check_inputs_stay, check_poisoned, check_repeats, tensors

pytestmark = pytest.mark.gpu

ALL = op_cases()
# One of each operator, dtype and layout: the sizes differ in what they cover of the kernels, not of what is asked here.
SOME = [*{tuple(p.id.split("-")[:1] + p.id.split("-")[2:]): p for p in reversed(op_cases())}.values()]
# Of the sizes of COCO: as many boxes as there may be, one class and many.
COCO = (133, 200, 336)
FULL = [
    *(upsample_argmax_case(f"upsample_argmax-{d}-{last}", COCO, d, last) for d in DTYPES for last in (False, True)),
    *(postprocess_case(f"postprocess-{d}-{last}", COCO, d, last) for d in DTYPES for last in (False, True)),
    *(resize_normalize_case(f"resize-{d}", (1080, 1920, 750, 1333), d, True) for d in DTYPES),
    *(nms_case(5000, classes, 5000, None) for classes in (1, 80)),
    *(paste_boxes_case(n, 800, 1344, "closest_borderness", None) for n in (100, 1001)),
]


def copy_into(static: dict, fresh: dict) -> None:
    """Gives inputs of a graph other contents."""
    for name, value in static.items():
        for old, new in zip(tensors(value), tensors(fresh[name]), strict=True):
            old.detach().copy_(new)


@pytest.fixture(scope="module", autouse=True)
def full_precision():
    """No TF32: float32 is to be float32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("case", ALL)
def test_equals_its_oracle(case, seed):
    for i in range(3):
        case.verify("cuda", seed + i)


@pytest.mark.parametrize("case", [p for p in ALL if p.values[0].is_exact])
def test_equals_the_cpu_to_the_last_bit(case, seed):
    inputs = case.inputs(seed)
    assert_same_bits(case.run(**on("cuda", inputs)), case.run(**inputs))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FULL])
def test_full_sizes_equal_the_cpu(case, seed):
    """Which the oracle holds at small ones."""
    inputs = case.inputs(seed)
    assert_same_bits(case.run(**on("cuda", inputs)), case.run(**inputs))


@pytest.mark.parametrize("case", ALL)
def test_whatever_memory_held_results_are_the_same(case, seed):
    check_poisoned(case, "cuda", seed)
    check_inputs_stay(case, "cuda", seed)


@pytest.mark.parametrize("case", SOME)
def test_the_same_bits_in_a_hundred_runs(case, seed):
    check_repeats(case, "cuda", seed, runs=100)


def captured(case: OpCase, static: dict, stream: torch.cuda.Stream) -> tuple[torch.cuda.CUDAGraph, Outputs]:
    """The call as a graph, and its outputs."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            case.run(**static)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        outputs = case.run(**static)
    return graph, outputs


@pytest.mark.parametrize("case", SOME)
def test_a_graph_follows_its_inputs(case, seed):
    """What is captured has no wait for the device, for that would fail, and depends on no contents."""
    stream, static = torch.cuda.Stream(), on("cuda", case.inputs(seed))
    graph, outputs = captured(case, static, stream)
    for i in (1, 2, 0):
        inputs = case.inputs(seed + i)
        copy_into(static, on("cuda", inputs))
        graph.replay()
        case.check(inputs, tuple(o.cpu() for o in outputs))


@pytest.mark.parametrize("case", SOME)
def test_two_streams_at_once(case, seed):
    """No memory is shared between calls that run side by side."""
    streams = [torch.cuda.Stream() for _ in range(2)]
    inputs = [on("cuda", case.inputs(seed + i)) for i in range(2)]
    expected = [case.run(**given) for given in inputs]
    torch.cuda.synchronize()
    results: list[list[Outputs]] = [[], []]
    for _ in range(20):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                results[i].append(case.run(**inputs[i]))
    torch.cuda.synchronize()
    for got, want in zip(results, expected, strict=True):
        for outputs in got:
            assert_same(case, "cuda", outputs, want)


@pytest.mark.parametrize("case", SOME)
def test_a_call_waits_for_nothing(case, seed):
    """It returns while the device still does what was asked for before, and torch sees no synchronisation."""
    inputs = on("cuda", case.inputs(seed))
    case.run(**inputs)  # modules are loaded, and torch's memory is there
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(300_000_000)  # longer than any call
        begun = torch.cuda.Event()
        begun.record()
        case.run(**inputs)
        assert not begun.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()


@pytest.mark.sanitized
@pytest.mark.parametrize("case", SOME)
def test_sanitized(case, seed):
    """One call of each, with its oracle: short enough for a tool that makes it a hundred times slower."""
    case.verify("cuda", seed)
