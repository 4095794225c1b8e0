"""Networks as torch modules: `build` makes one from an Architecture."""

from nas.models.inception import InceptionModule
from nas.models.network import InceptionNetwork, build

__all__ = ["InceptionModule", "InceptionNetwork", "build"]
