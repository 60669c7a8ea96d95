"""``lpsnet-summary``: parameters and multiply-accumulates of the recipes' networks."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from lpsnet.config import RECIPES, Recipe, get_recipe

HEADS = ("recipe", "input", "parameters", "GMAC", "of them deformable", "GMAC with deform off", "weights")
"""Of the table of all recipes."""


@dataclass(frozen=True)
class Arguments:
    """Prints what each part of a recipe's network costs, with and without deformable convolution.

    Attributes:
        recipe: its name, as `lpsnet-train` lists them.
        size: height and width of the network's input in pixels, multiples of 32; the largest input of the recipe
            where it is not given.
        all: one line for every recipe instead, each at its largest input.
        markdown: with `--all`, the table as it stands in docs/models.md.
    """

    recipe: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")] = None
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="H W")] = None
    all: bool = False
    markdown: bool = False


def main() -> None:
    """The entry point: exits with 1 and one line where the user can mend what is wrong."""
    arguments = tyro.cli(Arguments)
    try:
        if arguments.all:
            if arguments.recipe is not None or arguments.size is not None:
                raise ValueError("--all: expected neither a recipe nor --size beside it")
            rows = [overview_row(recipe) for recipe in RECIPES.values()]
            if arguments.markdown:
                print(markdown(rows))
                return
            table = Table(*HEADS)
            for row in rows:
                table.add_row(*row)
        else:
            if arguments.recipe is None or arguments.markdown:
                raise ValueError("expected the name of a recipe, or --all, with or without --markdown")
            recipe = get_recipe(arguments.recipe)
            table = summary(recipe, arguments.size or largest_input(recipe))
    except ValueError as error:
        Console(stderr=True).print(f"lpsnet-summary: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    Console().print(table)


def largest_input(recipe: Recipe) -> tuple[int, int]:
    """(height, width) of the network's input for an image whose sides both reach the recipe's limits."""
    return recipe.input.padded(recipe.input.short_side, recipe.input.max_side)


def overview_row(recipe: Recipe) -> tuple[str, ...]:
    """A recipe in the order of `HEADS`."""
    from lpsnet.models.macs import Cost, network_costs
    from lpsnet.packaged import packaged_models

    height, width = largest_input(recipe)
    total = sum(network_costs(recipe, (height, width)).values(), Cost(0, 0))
    # A deformable layer multiplies as often as the plain one in its place, once its offsets are known.
    plain = total.macs - total.offset_macs
    return (
        recipe.name,
        f"{height} x {width}",
        f"{total.parameters / 1e6:.2f} M",
        f"{total.macs / 1e9:.1f}",
        f"{total.deform_macs / 1e9:.1f}" if total.deform_macs else "-",
        f"{plain / 1e9:.1f}",
        "packaged" if recipe.name in packaged_models() else "none",
    )


def markdown(rows: list[tuple[str, ...]]) -> str:
    """The table of all recipes for a page."""
    lines = [HEADS, ("---", "---", *["---:"] * 4, "---"), *((f"`{name}`", *rest) for name, *rest in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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
