"""Turns a network into an artifact that runs elsewhere, and proves that it computes the same."""
