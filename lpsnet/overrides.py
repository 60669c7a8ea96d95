"""Settings of the post-processing that a command line may give, on top of those that a model brings."""

import dataclasses
from typing import Any

from lpsnet.config import PostprocessConfig

_types: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(PostprocessConfig)}
PostprocessOverrides: Any = dataclasses.make_dataclass(
    "PostprocessOverrides", [(name, kind | None, None) for name, kind in _types.items()], frozen=True
)
PostprocessOverrides.__doc__ = PostprocessConfig.__doc__

NO_OVERRIDES = PostprocessOverrides()


def overridden(config: PostprocessConfig, overrides: Any) -> PostprocessConfig:
    """The settings with those of `overrides` that are not None."""
    given = {name: value for name, value in dataclasses.asdict(overrides).items() if value is not None}
    return dataclasses.replace(config, **given)
