"""Masks as run lengths, which is how hotcoco takes them: no volume of masks and no PNG is ever made."""

import numpy as np


def run_lengths(ids: np.ndarray) -> dict[int, list[int]]:
    """COCO's uncompressed run lengths of each id but 0: runs of absence and presence in turn, down the columns."""
    flat = ids.T.ravel()
    if flat.size == 0:
        return {}
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    values, starts, ends = values[order], starts[order], ends[order]
    runs: dict[int, list[int]] = {}
    keys, firsts = np.unique(values, return_index=True)
    for key, first, last in zip(keys.tolist(), firsts, [*firsts[1:], len(values)], strict=True):
        if key != 0:
            edges = np.stack([starts[first:last], ends[first:last]], 1).ravel()
            runs[key] = np.diff(edges, prepend=0, append=flat.size).tolist()
    return runs
