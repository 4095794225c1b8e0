"""`nas spaces`: which search spaces there are, what they say, and networks drawn from them."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.new import new
from nas.cli.options import count
from nas.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from nas.architecture import Architecture
    from nas.space import Space

app = typer.Typer(help="Search spaces: list, show, check and sample them.")

Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A space that ships, or the path of a TOML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _limit(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        parser=count, metavar="COUNT", help=f"{what}; 200k and 1.5M are understood."
    )
    return option


app.command()(new)


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_command(json: Json = False) -> None:
    """Print the spaces that ship with nas."""
    from nas.space import list_spaces, load_space

    spaces = [load_space(name) for name in list_spaces()]
    if json:
        print_json([_summary(space) for space in spaces])
        return
    rows = [
        [
            space.name,
            "x".join(map(str, space.input_shape)),
            str(len(space.smallest().modules)),
            _params(space),
            str(space.recipe.epochs),
            space.source,
        ]
        for space in spaces
    ]
    print_table(
        ["space", "input", "modules", "parameters", "epochs", "source"], rows, left=("space", "parameters", "source")
    )


@app.command()
def show(space: Name) -> None:
    """Print a space's TOML with its comments: copy it to write your own."""
    from nas.space import load_space

    print(load_space(space).toml, end="")


@app.command()
def check(
    space: Name,
    samples: Annotated[int, typer.Option(help="Networks to draw under each rule.", min=1, max=100_000)] = 100,
) -> None:
    """Check a space's TOML: its keys, its bounds, and networks drawn from it under each rule."""
    from nas.architecture import RULES
    from nas.space import load_space

    loaded = load_space(space)
    print(
        f"space         {loaded.name}: {len(loaded.smallest().modules)} modules, {len(loaded.coordinates)} coordinates"
    )
    for word, extreme in (("smallest", loaded.smallest()), ("largest", loaded.largest())):
        print(f"{word:14}{extreme.params:,} parameters, {extreme.macs:,} MACs possible")
    print(f"searched      {_params(loaded)} parameters")
    for rule in RULES:
        if rule == "growing-each" and loaded.file.widths.share_3x3 is None:
            print(f"{rule:14}not available: share_3x3 and share_5x5 are not stated")
            continue
        narrowed = loaded.narrowed(rule=rule)
        drawn = list(_draw(narrowed, samples, seed=0))
        params = [network.params for network in drawn]
        missed = sum(not narrowed.allows(network) for network in drawn)
        print(
            f"{rule:14}{len({network.key for network in drawn}):,} different networks in {samples:,} draws, "
            f"{min(params):,} to {max(params):,} parameters, {missed:,} under a minimum"
        )


@app.command()
def sample(
    space: Name,
    n: Annotated[int, typer.Option("--n", help="How many networks.", min=1, max=1_000_000)] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same networks.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="One network a line, as JSON.")] = False,
    rule: Annotated[str | None, typer.Option(help="growing, growing-each or off.")] = None,
    cost: Annotated[str | None, typer.Option(help="params or macs: what the networks' sizes are spread over.")] = None,
    min_params: Annotated[int | None, _limit("Least parameters")] = None,
    max_params: Annotated[int | None, _limit("Most parameters")] = None,
    min_macs: Annotated[int | None, _limit("Least multiply-adds")] = None,
    max_macs: Annotated[int | None, _limit("Most multiply-adds")] = None,
) -> None:
    """Draw networks at random; the first ones stay the same when more are asked for.

    A line of --json is the network's own JSON, its modules under `stages`, with its key, params and macs.
    """
    from nas.space import load_space

    narrowed = load_space(space).narrowed(
        rule=rule, cost=cost, min_params=min_params, max_params=max_params, min_macs=min_macs, max_macs=max_macs
    )
    rows, missed = [], 0
    for network in _draw(narrowed, n, seed):
        missed += not narrowed.allows(network)
        if json:
            counts = {"key": network.key, "params": network.params, "macs": network.macs}
            print(json_text.dumps(network.to_json() | counts, separators=(",", ":")))
        else:
            shares = " ".join(f"{float(share):.2f}" for share in network.shares)
            rows.append([network.key, f"{network.params:,}", f"{network.macs:,}", shares])
    if rows:
        print_table(["key", "params", "macs", "share of 3x3 and 5x5, by depth"], rows)
    if missed:
        say(f"{missed:,} of {n:,} are under a minimum: their shapes have no size inside the budget")


def _draw(space: Space, n: int, seed: int) -> Iterator[Architecture]:
    import numpy as np

    generator = np.random.default_rng(seed)
    for _ in range(n):
        yield space.decode(generator.random(len(space.coordinates)))


def _params(space: Space) -> str:
    return f"{space.budget.min_params:,} to {space.budget.max_params:,}"


def _summary(space: Space) -> dict[str, object]:
    return {
        "name": space.name,
        "input_shape": list(space.input_shape),
        "classes": space.classes,
        "dataset": space.dataset,
        "source": space.source,
        "params": [space.budget.min_params, space.budget.max_params],
        "epochs": space.recipe.epochs,
    }
