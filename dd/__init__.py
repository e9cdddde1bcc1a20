"""Experiment sweeps for action-chunking policies under inference delay."""

from dd.loading import load

__all__ = ["load"]
