"""Every struct of lpsnet.h and its ctypes twin agree: names, order, sizes, offsets, and which fields are floats."""

import ctypes
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import lpsnet.native

HEADER = Path(__file__).parent.parent / "csrc/include/lpsnet.h"


def c_structs() -> dict[str, list[str]]:
    """The structs of lpsnet.h with the names of their fields."""
    text = re.sub(r"//.*", "", HEADER.read_text())
    structs = {}
    for body, name in re.findall(r"typedef struct \{(.*?)\} (\w+);", text, re.DOTALL):
        # "float mean[3], std[3];" declares mean and std.
        declarations = [d for d in body.split(";") if d.strip()]
        structs[name] = [
            re.findall(r"(\w+)\s*(?:\[\w+\])?\s*$", part)[0] for d in declarations for part in d.split(",")
        ]
    return structs


def ctypes_structs() -> dict[str, type[ctypes.Structure]]:
    """The ctypes structs of all modules of lpsnet.native under the names of their twins in C."""
    found = {}
    for module in pkgutil.iter_modules(lpsnet.native.__path__, "lpsnet.native."):
        if module.name.endswith(".liblpsnet"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, ctypes.Structure) and value is not ctypes.Structure:
                found[f"Lps{name}"] = value
    return found


def is_float(kind: type) -> bool:
    return kind is ctypes.c_float or (issubclass(kind, ctypes.Array) and is_float(kind._type_))


@pytest.fixture(scope="module")
def c_layout(tmp_path_factory) -> dict[str, tuple[int, ...]]:
    """What the C compiler says: {struct: (size,), struct.field: (offset, size, is a float)}."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler to ask: set CC")
    lines = []
    for struct, fields in c_structs().items():
        lines.append(f'printf("{struct} %zu\\n", sizeof({struct}));')
        for field in fields:
            value = f"(({struct}*)0)->{field}"
            floats = f"_Generic({value}, float: 1, float*: 1, default: 0)"
            layout = f"offsetof({struct}, {field}), sizeof({value}), {floats}"
            lines.append(f'printf("{struct}.{field} %zu %zu %d\\n", {layout});')
    folder = tmp_path_factory.mktemp("structs")
    source = '#include <stdio.h>\n#include "lpsnet.h"\nint main(void) {\n' + "\n".join(lines) + "\nreturn 0;\n}\n"
    (folder / "structs.c").write_text(source)
    command = [compiler, "-std=c11", "-Wall", "-Werror", "-I", HEADER.parent, "-o", folder / "structs"]
    subprocess.run([*command, folder / "structs.c"], check=True)
    out = subprocess.run([folder / "structs"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0]: tuple(map(int, line.split()[1:])) for line in out.splitlines()}


def test_the_header_is_understood():
    assert c_structs()["LpsNmsParams"] == ["num_boxes", "max_kept", "iou_threshold"]
    assert c_structs()["LpsLevels"] == ["num_levels", "height", "width", "stride"]
    assert len(c_structs()) == HEADER.read_text().count("typedef struct")


@pytest.mark.parametrize("name", sorted(c_structs()))
def test_every_c_struct_has_a_twin(name):
    twins = ctypes_structs()
    assert name in twins, f"{name}: expected a ctypes struct in lpsnet.native, got {sorted(twins)}"


@pytest.mark.parametrize("name", sorted(ctypes_structs()))
def test_twins_agree(name, c_layout):
    twin = ctypes_structs()[name]
    assert name in c_structs(), f"{name}: expected a struct in lpsnet.h, got {sorted(c_structs())}"
    assert [field[0] for field in twin._fields_] == c_structs()[name]
    assert (ctypes.sizeof(twin),) == c_layout[name]
    for field, kind in ((field[0], field[1]) for field in twin._fields_):
        at = getattr(twin, field)
        assert (at.offset, at.size, is_float(kind)) == c_layout[f"{name}.{field}"], field
