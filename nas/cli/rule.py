"""`nas rule`: the share of 3x3 and 5x5 filters by depth, and whether it ever falls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STUDIES, Json, Storage, StudiesDir

if TYPE_CHECKING:
    from nas.architecture import Architecture, Rule

Network = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME|STUDY:TRIAL",
        help="A network's JSON or the folder of an export, a reference network, or a trial of a study.",
    ),
]
RuleOption = Annotated[
    str | None,
    typer.Option("--rule", help="growing, growing-each or off; by default the study's, else growing.", metavar="RULE"),
]
_WIDTH = 40  # characters of a share of 1
_LARGEST = 1_000_000  # bytes; a network of a thousand modules has a tenth of it
_COUNTS = ("key", "params", "macs")  # beside a network in the lines of `nas spaces sample --json`


def rule(
    network: Network,
    asked: RuleOption = None,
    json: Json = False,
    studies_dir: StudiesDir = STUDIES,
    storage: Storage = None,
) -> None:
    """Plot a network's share of 3x3 and 5x5 filters by depth, and say whether it keeps the growth rule."""
    from nas.architecture import RULES, falls
    from nas.cli.output import print_json
    from nas.errors import ArchitectureError, choices

    if asked is not None and asked not in RULES:
        raise ArchitectureError(choices("--rule", asked, RULES))
    architecture, names, usual = _found(network, studies_dir, storage)
    chosen = next((known for known in RULES if known == asked), usual)
    fallen = falls(architecture, chosen)
    if json:
        print_json(_plain(architecture, names, chosen, fallen))
        return
    for line in _plot(architecture, names, chosen, fallen):
        print(line)
    print(_verdict(chosen, [names[number] for number in fallen]))


def _found(network: str, studies_dir: Path, storage: str | None) -> tuple[Architecture, tuple[str, ...], Rule]:
    """The network, the names of its modules, and the rule that is asked of it where the user names none."""
    from nas.errors import ArchitectureError, choices
    from nas.references import REFERENCES

    path = Path(network)
    if network in REFERENCES:
        one = REFERENCES[network]
        architecture = one.architecture(one.published_classes)
        if architecture is None:
            raise ArchitectureError(f"{network} has no Inception modules, so the growth rule asks nothing of it")
        return architecture, one.module_names, "growing"
    if path.suffix == ".json" or _is_there(path):
        architecture = _read(path)
        return architecture, _numbered(architecture), "growing"
    study, colon, trial = network.rpartition(":")
    if colon:
        architecture, usual = _of_study(study, trial, studies_dir, storage)
        return architecture, _numbered(architecture), usual
    raise ArchitectureError(choices("network", network, REFERENCES) + ", a .json file, or STUDY:TRIAL")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _read(path: Path) -> Architecture:
    """The network of a JSON file: its own, a line of `nas spaces sample --json`, `nas show --json`, or a model.json."""
    import json

    from nas.architecture import Architecture
    from nas.errors import ArchitectureError

    if path.is_dir():
        path = path / "model.json"
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArchitectureError(f"cannot read {str(path)[:300]!r}: {reason}; give a network's JSON") from error
    if len(content) > _LARGEST:
        raise ArchitectureError(f"{str(path)[:300]!r}: over {_LARGEST:,} bytes is no network's JSON")
    try:
        given = json.loads(content)
        given = given.get("architecture", given)
        return Architecture.from_json({name: value for name, value in given.items() if name not in _COUNTS})
    except (ValueError, AttributeError, RecursionError, ArchitectureError) as error:
        said = str(error) if isinstance(error, ArchitectureError) else f"not a network's JSON: {error}"
        raise ArchitectureError(f"{str(path)[:300]!r}: {' '.join(said.split())[:300]}") from error


def _of_study(study: str, trial: str, studies_dir: Path, storage: str | None) -> tuple[Architecture, Rule]:
    from nas.cli.options import read_outcome
    from nas.errors import StudyError

    if not (trial.isascii() and trial.isdecimal() and len(trial) < 10):
        raise StudyError(f"{study}:{trial}: after the colon stands the number of a trial, as in digits:12")
    _, outcome = read_outcome(study, studies_dir, storage)
    return outcome.trial(int(trial)).architecture, outcome.rule


def _numbered(architecture: Architecture) -> tuple[str, ...]:
    return tuple(f"m{number}" for number in range(1, len(architecture.modules) + 1))


def _plot(architecture: Architecture, names: tuple[str, ...], chosen: Rule, fallen: tuple[int, ...]) -> list[str]:
    """One bar a module; under `growing-each` its part of 5x5 is drawn with another letter."""
    lines = ["# is 3x3 and 5 is 5x5"] if chosen == "growing-each" else []
    width = max(map(len, names))
    for number, (name, (three, five, out)) in enumerate(zip(names, _filters(architecture), strict=True)):
        whole = round(_WIDTH * (three + five) / out)
        first = round(_WIDTH * three / out) if chosen == "growing-each" else whole
        bar = "#" * first + "5" * (whole - first)
        mark = "  falls" if number in fallen else ""
        lines.append(f"{name:{width}}  {(three + five) / out:.3f} |{bar:{_WIDTH}}| {three}+{five} of {out}{mark}")
    return lines


def _filters(architecture: Architecture) -> list[tuple[int, int, int]]:
    """(3x3, 5x5, all) output channels of each module."""
    pairs = zip(architecture.modules, architecture.module_inputs(), strict=False)
    return [(module.out_3x3, module.out_5x5, module.out_channels(shape[0])) for module, shape in pairs]


def _verdict(chosen: Rule, fallen: list[str]) -> str:
    if chosen == "off":
        return "Rule off: the shares may fall."
    if not fallen:
        return f"Rule {chosen}: holds."
    more = f", and again at {', '.join(fallen[1:])}" if fallen[1:] else ""
    return f"Rule {chosen}: broken, the share falls first at {fallen[0]}{more}."


def _plain(architecture: Architecture, names: tuple[str, ...], chosen: Rule, fallen: tuple[int, ...]) -> dict[str, Any]:
    return {
        "rule": chosen,
        "holds": not fallen,
        "first_fall": fallen[0] if fallen else None,
        "falls": list(fallen),
        "modules": list(names),
        "shares": [float(share) for share in architecture.shares],
        "filters": [dict(zip(("3x3", "5x5", "all"), row, strict=True)) for row in _filters(architecture)],
        "params": architecture.params,
        "macs": architecture.macs,
        "key": architecture.key,
    }
