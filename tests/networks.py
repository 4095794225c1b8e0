"""Networks that several tests build, written from their published descriptions alone."""

from __future__ import annotations

from random import Random

from nas.architecture import Architecture, Conv, InceptionWidths, LocalResponseNorm, MaxPool, StemLayer

W = InceptionWidths


def inception_cifar(classes: int) -> Architecture:
    pool = MaxPool(3, 2, 1, ceil=False)
    return Architecture(
        input_shape=(3, 32, 32),
        classes=classes,
        stem=(Conv(64, 3, batch_norm=True, bias=True),),
        stages=(
            (W(32, 48, 64, 8, 16, 16), W(64, 64, 96, 16, 32, 32)),
            (W(96, 64, 128, 16, 32, 32), W(128, 96, 160, 24, 48, 48)),
            (W(160, 128, 192, 32, 64, 64),),
        ),
        stage_pools=(pool, pool),
        batch_norm=False,
        conv_bias=True,
        dropout=0.4,
    )


def small_googlenet() -> Architecture:
    return Architecture(
        input_shape=(3, 32, 32),
        classes=10,
        stem=(Conv(64, 7, 2, 3, batch_norm=False), LocalResponseNorm(), MaxPool(3, 2)),
        stages=(
            (
                W(64, 16, 32, 8, 16, 16),
                W(64, 32, 64, 16, 32, 32),
                W(48, 56, 112, 32, 64, 32),
                W(32, 64, 128, 24, 64, 32),
                W(16, 112, 128, 24, 80, 32),
            ),
        ),
        batch_norm=False,
        conv_bias=True,
        dropout=0.4,
    )


def googlenet(auxiliary: tuple[int, ...] = (2, 5), *, ceil: bool = True) -> Architecture:
    pool = MaxPool(3, 2, 0, ceil=ceil)
    stem: tuple[StemLayer, ...] = (
        Conv(64, 7, 2, 3, batch_norm=False),
        pool,
        LocalResponseNorm(),
        Conv(64, 1, batch_norm=False),
        Conv(192, 3, batch_norm=False),
        LocalResponseNorm(),
        pool,
    )
    return Architecture(
        input_shape=(3, 224, 224),
        classes=1000,
        stem=stem,
        stages=(
            (W(64, 96, 128, 16, 32, 32), W(128, 128, 192, 32, 96, 64)),
            (
                W(192, 96, 208, 16, 48, 64),
                W(160, 112, 224, 24, 64, 64),
                W(128, 128, 256, 24, 64, 64),
                W(112, 144, 288, 32, 64, 64),
                W(256, 160, 320, 32, 128, 128),
            ),
            (W(256, 160, 320, 32, 128, 128), W(384, 192, 384, 48, 128, 128)),
        ),
        stage_pools=(pool, pool),
        batch_norm=False,
        conv_bias=True,
        dropout=0.4,
        auxiliary=auxiliary,
    )


def single_module(module: InceptionWidths) -> Architecture:
    """One module on 256x28x28, before a linear layer of one class."""
    return Architecture(
        input_shape=(256, 28, 28), classes=1, stem=(), stages=((module,),), batch_norm=True, batch_norm_eps=1e-3
    )


NAIVE = W(64, 0, 64, 0, 64, 0)
V1 = W(64, 96, 128, 16, 32, 32)


def random_architecture(random: Random) -> Architecture:
    """Any network on a small map: every field takes different values, reduce and projection 0 among them."""
    pick, yes = random.randint, lambda: random.random() < 0.5
    stem: list[StemLayer] = []
    for _ in range(pick(0, 3)):
        kernel = pick(1, 5)
        stem.append(
            random.choice(
                (
                    Conv(pick(1, 12), kernel, pick(1, 2), pick(kernel // 2, 3), batch_norm=yes(), bias=yes()),
                    MaxPool(kernel := pick(2, 3), pick(1, 2), pick(0, kernel // 2), ceil=yes()),
                    LocalResponseNorm(pick(1, 5), random.uniform(0, 1e-3), random.random(), random.uniform(0.5, 2)),
                )
            )
        )
    stages = tuple(
        tuple(W(pick(1, 9), pick(0, 6), pick(1, 9), pick(0, 4), pick(1, 9), pick(0, 9)) for _ in range(pick(1, 3)))
        for _ in range(pick(1, 3))
    )
    batch_norm = yes()
    return Architecture(
        input_shape=(
            pick(1, 4),
            pick(63, 80),
            pick(63, 80),
        ),  # five times halved by a 3x3 pool without padding leaves one
        classes=pick(1, 12),
        stem=tuple(stem),
        stages=stages,
        stage_pools=tuple(MaxPool(pick(2, 3), 2, pick(0, 1), ceil=yes()) for _ in stages[1:]),
        batch_norm=batch_norm,
        conv_bias=not batch_norm and yes(),
        batch_norm_eps=random.choice((1e-5, 1e-3)),
        dropout=random.choice((0.0, 0.25)),
        auxiliary=(0,) if yes() and not stem else (),
    )
