"""Settings of the post-processing that a command line may give, on top of those that a model brings."""

import dataclasses
from typing import Any

from lpsnet.config import PostprocessConfig

PostprocessOverrides: Any = dataclasses.make_dataclass(
    "PostprocessOverrides", [(f.name, f.type | None, None) for f in dataclasses.fields(PostprocessConfig)], frozen=True
)
PostprocessOverrides.__doc__ = PostprocessConfig.__doc__


def overridden(config: PostprocessConfig, overrides: Any) -> PostprocessConfig:
    """The settings with those of `overrides` that are not None."""
    given = {name: value for name, value in dataclasses.asdict(overrides).items() if value is not None}
    return dataclasses.replace(config, **given)
