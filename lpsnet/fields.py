"""Values of dataclass fields, checked against their types: from JSON, and from text such as ``a.b=300``."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

Config = TypeVar("Config")
_WORDS: dict[type, dict[str, Any]] = {bool: {"true": True, "false": False}, type(None): {"none": None}}


def from_dict(cls: type[Config], data: Any) -> Config:
    """A dataclass from plain data, as `dataclasses.asdict` and a trip through JSON leave it.

    Args:
        cls: a dataclass; its fields are dataclasses or of the types that `checked` knows.
        data: a mapping of its fields, or of some of them.

    Raises:
        ValueError: a field that it does not have, one that it needs, or a value of another type, by its full name.
    """
    return _from_dict(cls, data, "")


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """The dataclass with other values, by their dotted names: ``{"train.iterations": 300}``.

    Raises:
        ValueError: a name that is no field or a group of them, or a value of another type.
    """
    for path, value in values.items():
        config = _replaced(config, path, path, value)
    return config


def parsed(config: Config, settings: Iterable[str]) -> dict[str, Any]:
    """The values that texts such as ``train.iterations=300`` give to fields of this dataclass, by their dotted names.

    A tuple's items are separated by commas (``model.ppm_bins=1,2,3,6``); None is ``none``, a bool ``true``/``false``.

    Raises:
        ValueError: text without ``=``, a name that is no field, the same name twice, or a value of another type.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"settings: expected name=value, got {setting!r}")
        path = path.strip()
        if path in values:
            raise ValueError(f"settings: expected each name once, got {path} twice")
        values[path] = _parsed(_kind(config, path), text, path)
    return values


def value_of(config: Any, path: str) -> Any:
    """The value of a field by its dotted name. Raises ValueError where there is none."""
    _kind(config, path)
    for name in path.split("."):
        config = getattr(config, name)
    return config


def differences(one: Any, other: Any) -> list[str]:
    """The dotted names of the fields in which two dataclasses of one type differ."""
    names = []
    for f in dataclasses.fields(one):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if dataclasses.is_dataclass(a):
            names += [f"{f.name}.{inner}" for inner in differences(a, b)]
        elif a != b:
            names.append(f.name)
    return names


def checked(kind: Any, value: Any, name: str) -> Any:
    """The value, where it is of this type: a list becomes a tuple, a whole number a float, a mapping a dataclass.

    Args:
        kind: bool, int, float, str, None, a Literal, a dataclass of such, or a tuple or a union of these.
        value: what is checked.
        name: of the field, for the message.

    Raises:
        ValueError: a value of another type.
    """
    found, value = _fits(kind, value)
    if not found:
        raise ValueError(f"{name}: expected {describe(kind)}, got {value!r}")
    return value


def describe(kind: Any) -> str:
    """The type in words, for a message."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a sequence of {describe(arguments[0])}"
        return f"{len(arguments)} of {describe(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    return "None" if kind is type(None) else str(kind.__name__)


def _from_dict(cls: Any, data: Any, prefix: str) -> Any:
    if not isinstance(data, Mapping):
        raise ValueError(f"{cls.__name__}: expected a mapping of its fields, got {type(data).__name__}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ValueError(f"{cls.__name__}: expected fields among {sorted(fields)}, got {unknown}")
    missing = sorted(
        name
        for name, f in fields.items()
        if name not in data and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    if missing:
        raise ValueError(f"{cls.__name__}: expected the fields {missing}, got none of that name")
    values = {}
    for name, value in data.items():
        kind: Any = fields[name].type
        path = prefix + name
        nested = dataclasses.is_dataclass(kind)
        values[name] = _from_dict(kind, value, f"{path}.") if nested else checked(kind, value, path)
    return cls(**values)


def _replaced(config: Any, path: str, rest: str, value: Any) -> Any:
    name, _, inner = rest.partition(".")
    kind = _field_kind(config, name, path)
    if inner:
        return dataclasses.replace(config, **{name: _replaced(getattr(config, name), path, inner, value)})
    _expect_leaf(kind, path)
    return dataclasses.replace(config, **{name: checked(kind, value, path)})


def _kind(config: Any, path: str) -> Any:
    kind: Any = type(config)
    for name in path.split("."):
        kind = _field_kind(kind, name, path)
    _expect_leaf(kind, path)
    return kind


def _field_kind(owner: Any, name: str, path: str) -> Any:
    fields = {f.name: f.type for f in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else {}
    if name not in fields:
        known = f"one of {sorted(fields)}" if fields else "no field below that"
        raise ValueError(f"{path}: expected {known} at {name!r}")
    return fields[name]


def _expect_leaf(kind: Any, path: str) -> None:
    if dataclasses.is_dataclass(kind):
        names = sorted(f"{path}.{f.name}" for f in dataclasses.fields(kind))
        raise ValueError(f"{path}: expected a single field, one of {names}, got a group of them")


def _fits(kind: Any, value: Any) -> tuple[bool, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in arguments), value
    if origin in (typing.Union, types.UnionType):
        for alternative in arguments:
            found, converted = _fits(alternative, value)
            if found:
                return True, converted
        return False, value
    if origin is tuple:
        return _fits_tuple(arguments, value)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, Mapping):
            return True, _from_dict(kind, value, "")
        return isinstance(value, typing.cast(type, kind)), value
    if kind is float and type(value) is int:
        return True, float(value)
    return type(value) is kind, value


def _fits_tuple(arguments: tuple[Any, ...], value: Any) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, value
    kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(kinds) != len(value):
        return False, value
    items = [_fits(kind, item) for kind, item in zip(kinds, value, strict=True)]
    return all(found for found, _ in items), tuple(item for _, item in items)


def _parsed(kind: Any, text: str, name: str) -> Any:
    """The value that text spells, by the type that is wanted: "1" is text for a str, a number for an int."""
    found, value = _read(kind, text.strip())
    if not found:
        raise ValueError(f"{name}: expected {describe(kind)}, got {text!r}")
    return value


def _read(kind: Any, text: str) -> tuple[bool, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return next(((True, a) for a in arguments if str(a) == text), (False, text))
    if origin in (typing.Union, types.UnionType):
        return next((r for r in (_read(a, text) for a in arguments) if r[0]), (False, text))
    if origin is tuple:
        items = [i.strip() for i in text.strip("()[]").split(",") if i.strip()]
        kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(items):
            return False, text
        read = [_read(k, item) for k, item in zip(kinds, items, strict=True)]
        return all(found for found, _ in read), tuple(value for _, value in read)
    if kind in _WORDS:
        words = _WORDS[kind]
        return text.lower() in words, words.get(text.lower(), text)
    try:
        return True, kind(text)
    except ValueError:
        return False, text
