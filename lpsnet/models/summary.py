"""``lpsnet-summary``: parameters and multiply-accumulates of a recipe's network."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from lpsnet.config import Recipe, get_recipe


@dataclass(frozen=True)
class Arguments:
    """Prints what each part of a recipe's network costs, with and without deformable convolution.

    Attributes:
        recipe: its name, as `lpsnet-train` lists them.
        size: height and width of the network's input in pixels, multiples of 32; the largest input of the recipe
            where it is not given.
    """

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="H W")] = None


def main() -> None:
    """The entry point: exits with 1 and one line where the user can mend what is wrong."""
    arguments = tyro.cli(Arguments)
    try:
        recipe = get_recipe(arguments.recipe)
        size = arguments.size or recipe.input.padded(recipe.input.short_side, recipe.input.max_side)
        table = summary(recipe, size)
    except ValueError as error:
        Console(stderr=True).print(f"lpsnet-summary: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    Console().print(table)


def summary(recipe: Recipe, size: tuple[int, int]) -> Table:
    """The costs of a recipe at an input of (height, width), as a table.

    Raises:
        ValueError: a size that is no multiple of 32.
    """
    from lpsnet.models.macs import PARTS, Cost, network_costs

    costs = network_costs(recipe, size)
    plain = network_costs(dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, deform="off")), size)
    table = Table(
        title=f"{recipe.name} at {size[0]} x {size[1]}",
        caption="GMAC: 1e9 multiply-accumulates of convolutions and matrix products for one image",
    )
    table.add_column("part")
    for column in ("parameters", "GMAC", "of them deformable", "of them offsets", "GMAC with deform off"):
        table.add_column(column, justify="right")
    rows = [(title, costs[name], plain[name]) for name, title in PARTS.items()]
    total, plain_total = (sum(c.values(), Cost(0, 0)) for c in (costs, plain))
    for title, cost, plain_cost in [*rows, ("total", total, plain_total)]:
        numbers = (cost.macs, cost.deform_macs, cost.offset_macs, plain_cost.macs)
        if title == "total":
            table.add_section()
        table.add_row(title, f"{cost.parameters:,}", *(f"{n / 1e9:.3f}" for n in numbers))
    return table


if __name__ == "__main__":
    main()
