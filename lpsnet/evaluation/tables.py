"""The scores as tables for the terminal."""

import math

from rich.table import Table

from lpsnet.evaluation.evaluate import Scores


def score_table(scores: Scores, title: str) -> Table:
    """PQ, SQ, RQ, AP and IoU of all classes, of things, of stuff, and of each class, in percent."""
    table = _table(title, "class", "PQ", "SQ", "RQ", "AP box", "AP mask", "IoU")
    p, s = scores.panoptic, scores.semantic
    average_precision = (scores.box.ap, scores.mask.ap)
    table.add_row("all", *_percent(p.pq, p.sq, p.rq, *average_precision, s.miou), style="bold")
    table.add_row("things", *_percent(p.pq_thing, p.sq_thing, p.rq_thing, *average_precision))
    table.add_row("stuff", *_percent(p.pq_stuff, p.sq_stuff, p.rq_stuff), end_section=True)
    for name, quality in p.per_class.items():
        box, mask = (d.per_class.get(name, math.nan) for d in (scores.box, scores.mask))
        table.add_row(name, *_percent(quality.pq, quality.sq, quality.rq, box, mask, s.per_class[name]))
    return table


def detection_table(scores: Scores) -> Table:
    """COCO's detection metrics of boxes and masks, in percent."""
    table = _table("Average precision", "of", "AP", "AP50", "AP75", "AP small", "AP medium", "AP large")
    for name, d in (("boxes", scores.box), ("masks", scores.mask)):
        table.add_row(name, *_percent(d.ap, d.ap50, d.ap75, d.ap_small, d.ap_medium, d.ap_large))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left")
    return table


def _percent(*values: float) -> list[str]:
    return ["-" if math.isnan(v) else f"{v:.1f}" for v in values]
