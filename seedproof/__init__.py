"""Prove a training result across seeds."""

__version__ = "0.2.0"
