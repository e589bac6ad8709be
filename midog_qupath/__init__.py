"""Mitosis detection and atypical classification for QuPath projects."""

__version__ = "0.1.0"
