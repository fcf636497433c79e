"""Mirroring runs into MLflow. Only `recorder` imports mlflow, and only in a process of its own."""

from subl.tracking.tracker import MetricPoint, NullTracker, RunStatus, Tracker, open_tracker

__all__ = ["MetricPoint", "NullTracker", "RunStatus", "Tracker", "open_tracker"]
