"""Opening a model.pt2, which torch would partly unpickle, without any pickle."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from nas.data.files import shown
from nas.errors import ExportError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_HELD = ("data/weights/", "data/constants/", "data/sample_inputs/", "models/", "extra/")
_ABOUT = (".data/", "archive_", "byteorder")
# what torch raises on an archive that does not hold what it should
_TORN = (
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    TypeError,
    OSError,
    pickle.UnpicklingError,
)


def load_pt2(path: Path) -> ExportedProgram:
    """An exported program whose weights are plain bytes. Its graph is a program all the same: load what you trust.

    Raises:
        ExportError: it is no such file, or it holds pickles, compiled code or packed files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ExportError(  # a few KB may unpack to many GB
                    f"{shown(str(path))} holds packed files, which torch does not write; it is not opened"
                )
            names = archive.namelist()
            inner = [name.partition("/")[2] for name in names]
            plain = len(set(names)) == len(names) and all(name.startswith(_HELD + _ABOUT) for name in inner)
            configs = [json.loads(archive.read(name)) for name in names if name.endswith("_config.json")]
            plain = plain and not any(entry["use_pickle"] for one in configs for entry in one["config"].values())
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{shown(str(path))} cannot be read as a torch export: {error}; export it again") from error
    if not plain or not any(name.startswith("models/") for name in inner):
        raise ExportError(
            f"{shown(str(path))} holds pickles, compiled code or other things that `nas export` does not write; it is "
            "not opened"
        )
    import torch

    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # of the example inputs torch would unpickle what is no tensor
    try:
        return torch.export.load(path)
    except _TORN as error:
        said = shown(" ".join(str(error).split()))[:200]
        raise ExportError(f"{shown(str(path))} cannot be read as a torch export ({said}); export it again") from error
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
