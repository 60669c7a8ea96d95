"""Metrics of panoptic maps and of label maps."""
