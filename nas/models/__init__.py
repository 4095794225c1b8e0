"""Networks as torch modules: `build` makes one from an Architecture, `build_reference` a known network."""

from nas.models.inception import InceptionModule
from nas.models.network import InceptionNetwork, build
from nas.models.plain import PlainModule
from nas.models.reference import build_reference

__all__ = ["InceptionModule", "InceptionNetwork", "PlainModule", "build", "build_reference"]
