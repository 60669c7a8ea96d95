"""Ablations: the same recipe trained and scored several ways, the paper's table beside ours. ``lpsnet-ablation``."""
