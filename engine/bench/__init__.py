"""``lpsnet-bench``: time, memory and cost of networks from an image to its panoptic map, side by side."""
