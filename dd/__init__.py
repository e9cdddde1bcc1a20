"""Experiment sweeps for action-chunking policies under inference delay."""
