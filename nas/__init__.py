"""Search Inception-module widths for small, accurate image classifiers."""

__version__ = "0.1.0"
