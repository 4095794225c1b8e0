"""A network taken away from a study: files that run without nas, checked against the accuracy on record."""

from nas.export.bundle import Exported, export_network
from nas.export.formats import FORMATS, formats_of

__all__ = ["FORMATS", "Exported", "export_network", "formats_of"]
