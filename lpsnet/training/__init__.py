"""Training: batches, the loop, its checkpoints and the command ``lpsnet-train``."""
