"""Tracking in MLflow; nothing else in the tree imports it."""
