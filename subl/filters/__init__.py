"""Dropping rows, each with a reason."""
