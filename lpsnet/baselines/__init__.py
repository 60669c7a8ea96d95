"""Peers to time LPSNet against, written from their papers: UPSNet and Panoptic FPN."""
