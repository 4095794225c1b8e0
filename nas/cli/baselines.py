"""`nas baselines`: the known networks that a search is held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.baselines_line import line
from nas.cli.baselines_train import train
from nas.cli.options import Json

if TYPE_CHECKING:
    from nas.references import Reference

app = typer.Typer(help="Reference networks: known ones that a search is held against.")

Classes = Annotated[
    int | None,
    typer.Option(
        "--classes", min=1, max=1_000_000, help="Count for so many classes; by default each as it was published."
    ),
]


app.command("train")(train)
app.command("line")(line)


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_command(classes: Classes = None, json: Json = False) -> None:
    """Print the reference networks: parameters, multiply-adds, and whether they keep the growth rule.

    A single module is counted alone; below the table stands what its wrapper makes of it.
    """
    from nas.cli.output import print_json, print_table, say
    from nas.references import REFERENCES, WRAPPER

    entries = [_plain(one, one.published_classes if classes is None else classes) for one in REFERENCES.values()]
    if json:
        print_json(entries)
        return
    print_table(
        ["network", "parameters", "MACs", "input", "classes", "growth rule", "published", "what"],
        [
            [
                entry["name"],
                f"{entry['params']:,}",
                f"{entry['macs']:,}",
                _sides(entry["input"]),
                "" if entry["module_params"] else str(entry["classes"]),
                _verdict(one),
                one.published.partition(" (")[0] + " *" * one.watched_test,
                one.what,
            ]
            for entry, one in zip(entries, REFERENCES.values(), strict=True)
        ],
        left=("network", "growth rule", "published", "what"),
    )
    say(f"The two modules are counted alone; they are trained in a wrapper: {WRAPPER}.")
    for entry in entries:
        if entry["module_params"]:
            say(
                f"{entry['name']} in its wrapper: {entry['network_params']:,} parameters, "
                f"{entry['network_macs']:,} MACs at {_sides(entry['network_input'])}, {entry['classes']} classes"
            )
        elif entry["training_params"] != entry["params"]:
            say(f"{entry['name']} with its auxiliary heads, in training: {entry['training_params']:,} parameters")
    watched = ", ".join(name for name, one in REFERENCES.items() if one.watched_test)
    say(
        f"Published accuracies are as reported there, one run each. * The runs of {watched} also watched the test "
        "images every epoch, which nas never does."
    )


def _plain(one: Reference, classes: int) -> dict[str, Any]:
    """`params`, `macs` and `input` are those of a single module where it is one, and `network_*` its wrapper's."""
    from nas.references import MODULE_INPUT

    network = {"params": one.params(classes), "macs": one.macs(classes), "input": list(one.input_shape)}
    alone = {"params": one.module_params, "macs": one.module_macs, "input": list(MODULE_INPUT)}
    return {
        "name": one.name,
        "what": one.what,
        "source": one.source,
        "published": one.published or None,
        "watched_test": one.watched_test,
        **(network if one.module is None else alone),
        "classes": classes,
        "obeys_rule": one.obeys_rule,
        "first_fall": one.first_fall,
        "modules": list(one.module_names),
        "shares": [float(share) for share in one.shares],
        "module_params": one.module_params,
        "training_params": one.module_params or one.training_params(classes),
        **{f"network_{name}": value for name, value in network.items()},
    }


def _verdict(one: Reference) -> str:
    if not one.shares:
        return "no modules"
    return "obeys" if one.first_fall is None else f"fails first at {one.module_names[one.first_fall]}"


def _sides(shape: list[int]) -> str:
    return "x".join(map(str, shape))
