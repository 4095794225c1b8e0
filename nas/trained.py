"""A network of a study as a torch module with its weights."""

from __future__ import annotations

import safetensors
from safetensors.torch import load
from torch import nn

from nas.chosen import Chosen, Weights
from nas.errors import StudyError
from nas.models import build


def network_of(chosen: Chosen, weights: Weights) -> tuple[nn.Module, str]:
    """The network with these of its weights, on the CPU, and the SHA-256 of their file.

    Raises:
        StudyError: the file is gone, damaged, not the one on record, or of another network.
    """
    content, sha256 = weights.read()
    network = build(chosen.row.architecture)
    try:
        network.load_state_dict(load(content))
    except safetensors.SafetensorError as error:
        raise StudyError(f"{weights.path} is damaged ({error}); restore it from a copy") from error
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise StudyError(
            f"{weights.path} holds the weights of another network than trial {chosen.row.trial}'s ({said}); restore it "
            "from a copy"
        ) from error
    return network, sha256
