"""A network taken away from a study: files that run without nas, checked against the accuracy on record."""

from nas.export.bundle import Exported, export_network

__all__ = ["Exported", "export_network"]
