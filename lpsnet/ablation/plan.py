"""Which trainings and which scorings an ablation needs, and where their files are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpsnet.ablation.catalogue import Row, Scoring
from lpsnet.config import Recipe
from lpsnet.fields import replaced, value_of

_SCORING = "postprocess."


@dataclass(frozen=True)
class Run:
    """One row with one seed.

    Attributes:
        row: of the table.
        seed: of initialisation, order and augmentation.
        trained: the recipe that is trained. Rows that differ in their post-processing alone have the same.
        recipe: the one that is scored.
        folder: of the training's files.
        variant: distinguishes the ways in which one training is scored; empty for the base recipe's own.
    """

    row: Row
    seed: int
    trained: Recipe
    recipe: Recipe
    folder: Path
    variant: str

    def scores_path(self, split: str) -> Path:
        """The JSON file of its scores on a split of the data."""
        return self.folder / f"{split}{'.' if self.variant else ''}{self.variant}.json"


def plan(base: Recipe, rows: Sequence[Row], seeds: Sequence[int], output: Path) -> list[Run]:
    """The runs of an ablation: all rows with the first seed, then with the next, so that a whole table is there early.

    A training's folder is named by what distinguishes it from the base recipe, so that ablations of the same base
    share its training in the same `output`.

    Raises:
        ValueError: a row whose overrides are no fields of the recipe.
    """
    runs = []
    for seed in seeds:
        for row in rows:
            changed = {path: value for path, value in row.overrides.items() if value_of(base, path) != value}
            scoring = {path: value for path, value in changed.items() if path.startswith(_SCORING)}
            training = {path: value for path, value in changed.items() if path not in scoring}
            trained = replaced(base, {**training, "train.seed": seed})
            folder = output / (_name(training) or "base") / f"seed{seed}"
            variant = _name(scoring | _special(row.test))
            runs.append(Run(row, seed, trained, replaced(trained, scoring), folder, variant))
    # Rows that share a training follow one another.
    first = {run.folder: index for index, run in reversed(list(enumerate(runs)))}
    return sorted(runs, key=lambda run: first[run.folder])


def _special(test: Scoring) -> dict[str, Any]:
    return {f"test.{name}": value for name, value in vars(test).items() if value != getattr(Scoring(), name)}


def _name(overrides: Mapping[str, Any]) -> str:
    return "+".join(f"{path}={_text(value)}" for path, value in sorted(overrides.items()))


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
