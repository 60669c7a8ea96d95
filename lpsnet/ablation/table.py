"""The paper's table beside ours."""

import math
import statistics
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from lpsnet.ablation.catalogue import METRICS, Row
from lpsnet.ablation.results import Result

_LABEL_WIDTH = 14
_ANY_WIDTH = 1000
Cells = Sequence[Sequence[str]]


def mean_and_deviation(values: Sequence[float]) -> str:
    """``41.2 ± 0.3``: mean and sample standard deviation; the value alone where there is one, ``-`` where none.

    A run whose score is not defined (NaN) counts for nothing.
    """
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return "-"
    mean = f"{statistics.fmean(defined):.1f}"
    return mean if len(defined) == 1 else f"{mean} ± {statistics.stdev(defined):.1f}"


def cells(rows: Sequence[Row], results: Mapping[str, Sequence[Result]]) -> tuple[list[str], list[list[str]]]:
    """The heads of the columns and the rows of the table.

    Args:
        rows: of the ablation. The paper has a column where it has a number for one of them.
        results: of the runs that are done, by the label of their row.
    """
    in_paper = [key for key in METRICS if any(key in row.paper for row in rows)]
    heads = ["", *(f"{METRICS[key]}, paper" for key in in_paper), *(f"{title}, ours" for title in METRICS.values())]
    body = []
    for row in rows:
        papers = [f"{row.paper[key]:.1f}" if key in row.paper else "-" for key in in_paper]
        ours = [mean_and_deviation([r.metrics[key] for r in results.get(row.label, ())]) for key in METRICS]
        body.append([row.label, *papers, *ours, str(len(results.get(row.label, ())))])
    return [*heads, "seeds"], body


def print_table(title: str, caption: str, heads: Sequence[str], body: Cells) -> None:
    """On standard output, as wide as it needs to be: a number that is cut off is worse than a line that wraps."""
    table = Table(title=title, caption=caption)
    for index, head in enumerate(heads):
        if index == 0:
            table.add_column(head, min_width=_LABEL_WIDTH, max_width=2 * _LABEL_WIDTH)
        else:
            table.add_column(head.replace(", ", "\n"), justify="right", no_wrap=True)
    for row in body:
        table.add_row(*row)
    needed = Console(width=_ANY_WIDTH).measure(table).maximum
    Console(width=max(needed, Console().width)).print(table)


def markdown(title: str, caption: str, heads: Sequence[str], body: Cells) -> str:
    """For a page."""
    rule = "|".join(["---", *["---:"] * (len(heads) - 1)])
    lines = [f"**{title}**", "", "| " + " | ".join(heads) + " |", f"|{rule}|"]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join([*lines, "", caption, ""])
