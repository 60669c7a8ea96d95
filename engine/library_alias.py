"""A second name for a shared library that is loaded already, without a file on the disk.

TensorRT-RTX's parser of ONNX opens ``libtensorrt_rtx.so`` when it looks for a plugin, and ends the process where that
fails. NVIDIA's wheel has that library under the name ``libtensorrt_rtx.so.1`` alone, and the loader's path is read when
the process starts. So the loader gets a library without any code that is called by the one name and depends on the
other: symbols that are asked of it are found in what it depends on.
"""

import ctypes
import os
import platform
import struct

_MACHINES = {"x86_64": 62, "aarch64": 183}
_HEADER, _PROGRAM_HEADER = 64, 56
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_READ_WRITE = 6
_NEEDED, _STRINGS, _SYMBOLS, _STRINGS_SIZE, _SYMBOL_SIZE, _SONAME = 1, 5, 6, 10, 11, 14
_SYMBOL = 24


def alias_library(alias: str, name: str) -> None:
    """Makes ``dlopen(alias)`` succeed in this process; nothing happens where it does already.

    Args:
        alias: such as ``libtensorrt_rtx.so``.
        name: of the library as the loader knows it, such as ``libtensorrt_rtx.so.1``, which is loaded.

    Raises:
        OSError: a library that is not loaded and cannot be found, another system than Linux, another processor.
    """
    try:
        ctypes.CDLL(alias)
        return
    except OSError:
        pass
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        raise OSError(f"{alias}: expected a library of that name where the loader finds it, got none")
    file = os.memfd_create(alias)
    try:
        os.write(file, _empty_library(alias, name, _MACHINES[platform.machine()]))
        ctypes.CDLL(f"/proc/self/fd/{file}")
    except OSError:
        os.close(file)
        raise
    # It stays open: the loader knows the library by this path, and would take the next file of the number for it.


def _empty_library(soname: str, needed: str, machine: int) -> bytes:
    """A shared object of ELF with three program headers, a dynamic section, one null symbol and its strings."""
    strings = b"\0" + soname.encode() + b"\0" + needed.encode() + b"\0"
    dynamic_at = _HEADER + 3 * _PROGRAM_HEADER
    entries = 7
    symbols_at = dynamic_at + 16 * entries
    strings_at = symbols_at + _SYMBOL
    size = strings_at + len(strings)
    dynamic = (
        (_SONAME, 1),
        (_NEEDED, 2 + len(soname)),
        (_STRINGS, strings_at),
        (_STRINGS_SIZE, len(strings)),
        (_SYMBOLS, symbols_at),
        (_SYMBOL_SIZE, _SYMBOL),
        (0, 0),
    )
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bits, little-endian
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", identity, 3, machine, 1, 0, _HEADER, 0, 0, _HEADER, _PROGRAM_HEADER, 3, 0, 0, 0
    )
    # Writable: the loader puts the real addresses into the dynamic section. The last one keeps stacks not executable.
    load = _program_header(_LOAD, 0, size, 0x10000)
    section = _program_header(_DYNAMIC, dynamic_at, 16 * entries, 8)
    stack = _program_header(_STACK, 0, 0, 16)
    body = b"".join(struct.pack("<qQ", *entry) for entry in dynamic)
    return header + load + section + stack + body + bytes(_SYMBOL) + strings


def _program_header(kind: int, at: int, size: int, alignment: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, _READ_WRITE, at, at, at, size, size, alignment)
