"""model.py: a network as a readable file of torch alone, generated from its Architecture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple

from nas.architecture import Architecture, Conv, LocalResponseNorm, MaxPool
from nas.errors import ExportError

LINE = 120


def source_of(
    architecture: Architecture,
    *,
    title: str,
    classes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
) -> str:
    """The text of model.py. Its `Network` has the state that `nas.models.build` has, without auxiliary heads.

    Args:
        title: one line about the network; it may hold any characters.
        classes: names in the order of the logits.
        mean, std: one number a channel, of pixels in 0..1.

    Raises:
        ExportError: the architecture has a layer that this cannot write.
    """
    channels, height, width = architecture.input_shape
    norms = architecture.batch_norm or any(isinstance(one, Conv) and one.batch_norm for one in architecture.stem)
    parts = [
        f'"""{_in_docstring(title)}\n',
        _HEAD.format(channels=channels, height=height, width=width),
        _constant("CLASSES", [_quoted(name) for name in classes]),
        _constant("MEAN", [repr(float(value)) for value in mean]) + "  # of the training images' pixels in 0..1",
        _constant("STD", [repr(float(value)) for value in std]),
        'WEIGHTS = Path(__file__).with_name("model.safetensors")',
        "\n\nclass ConvReLU(nn.Sequential):",
        _CONV_DOC_NORM if norms else _CONV_DOC,
        *_conv_relu(architecture, norms),
    ]
    if any(isinstance(layer, LocalResponseNorm) for layer in architecture.stem):
        parts.append(_LOCAL_RESPONSE_NORM)
    parts += [_INCEPTION, *_network(architecture), _TAIL.format(channels=channels, height=height, width=width)]
    return "\n".join(parts)


_HEAD = '''\
Needs torch, nothing else. `load` reads the weights in model.safetensors, which lies beside this file:

    network = load()
    logits = network(normalise(pixels))  # the highest is the class

where pixels are (N, {channels}, {height}, {width}) of 0..255.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
'''

_CONV_DOC = '    """Square convolution, ReLU: (N, in_channels, H, W) -> (N, out_channels, H\', W\')."""\n'
_CONV_DOC_NORM = _CONV_DOC.replace("convolution,", "convolution, batch norm where `norm`,")

_LOCAL_RESPONSE_NORM = '''

class LocalResponseNorm(nn.Module):
    """x / (k + alpha / size * sum of squares over `size` neighbouring channels) ** beta (Krizhevsky et al. 2012).

    As torch.nn.LocalResponseNorm up to rounding; the sum over neighbours is a product with a band matrix.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        ones = torch.ones(x.shape[-1], x.shape[-1], dtype=x.dtype, device=x.device)
        window = ones.tril(self.size // 2).triu(-((self.size - 1) // 2))
        base = torch.matmul(x * x, window * (self.alpha / self.size)) + self.k
        root = base.rsqrt()
        factor = root * root.sqrt() if self.beta == 0.75 else base.pow(-self.beta)
        return (x * factor).permute(0, 3, 1, 2)'''

_INCEPTION = '''

class Inception(nn.Module):
    """Four branches over one input, concatenated on channels (Szegedy et al. 2014): 1x1, 3x3, 5x5 and pool.

    The 1x1 convolutions that read the input run as one, `entry`: the 1x1 branch and the two reductions.

    Args:
        in_channels: of the input.
        out_1x1, out_3x3, out_5x5: channels of the branches.
        reduce_3x3, reduce_5x5: channels of the 1x1 convolution before the branch; 0 for none.
        out_pool: channels of the projection after the pool; 0 passes the pooled input through.
    """

    def __init__(
        self,
        in_channels: int,
        out_1x1: int,
        reduce_3x3: int,
        out_3x3: int,
        reduce_5x5: int,
        out_5x5: int,
        out_pool: int,
    ) -> None:
        super().__init__()
        self.parts = (out_1x1, reduce_3x3, reduce_5x5)
        self.entry = ConvReLU(in_channels, sum(self.parts), 1)
        self.conv_3x3 = ConvReLU(reduce_3x3 or in_channels, out_3x3, 3, padding=1)
        self.conv_5x5 = ConvReLU(reduce_5x5 or in_channels, out_5x5, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.project = ConvReLU(in_channels, out_pool, 1) if out_pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        one, three, five = self.entry(x).split(self.parts, dim=1)
        three = self.conv_3x3(three if self.parts[1] else x)
        five = self.conv_5x5(five if self.parts[2] else x)
        return torch.cat([one, three, five, self.project(self.pool(x))], dim=1)'''

_TAIL = '''

def normalise(pixels: Tensor) -> Tensor:
    """(N, {channels}, {height}, {width}) of 0..255 -> float32 as the network was trained on."""
    scale = torch.tensor([1 / (255 * std) for std in STD], dtype=torch.float32)
    shift = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)], dtype=torch.float32)
    rows = pixels.permute(0, 2, 3, 1).contiguous().to(torch.float32)  # (N, H, W, C)
    return torch.addcmul(shift.to(rows.device), rows, scale.to(rows.device)).permute(0, 3, 1, 2)


def load(path: str | Path = WEIGHTS) -> Network:
    """The trained network, in evaluation mode, on the CPU."""
    network = Network()
    network.load_state_dict(read_safetensors(path))
    return network.eval().to(memory_format=torch.channels_last)


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a file: the length of a JSON header, the header, the bytes that it points into."""
    content = Path(path).read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    kinds = {{"F32": torch.float32, "I64": torch.int64}}
    tensors = {{}}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            part = bytearray(content[begin + first : begin + last])
            tensors[name] = torch.frombuffer(part, dtype=kinds[entry["dtype"]]).reshape(entry["shape"])
    return tensors
'''


def _conv_relu(architecture: Architecture, norms: bool) -> Iterator[str]:
    """The body of ConvReLU; its defaults are those of the modules' convolutions."""
    bias, norm = architecture.conv_bias, architecture.batch_norm
    yield "    def __init__("
    yield "        self,"
    yield "        in_channels: int,"
    yield "        out_channels: int,"
    yield "        kernel: int,"
    yield "        stride: int = 1,"
    yield "        padding: int = 0,"
    yield f"        bias: bool = {bias},"
    if norms:
        yield f"        norm: bool = {norm},"
    yield "    ) -> None:"
    yield "        super().__init__()"
    yield "        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=bias)"
    if norms:
        yield "        if norm:"
        yield f"            self.norm = nn.BatchNorm2d(out_channels, eps={architecture.batch_norm_eps!r})"
    yield "        self.relu = nn.ReLU(inplace=True)"


def _network(architecture: Architecture) -> Iterator[str]:
    shapes = architecture.module_inputs()
    yield "\n\nclass Network(nn.Module):"
    yield f'    """{architecture.params:,} parameters, {architecture.macs:,} multiply-adds an image."""\n'
    yield "    def __init__(self) -> None:"
    yield "        super().__init__()"
    if architecture.stem:
        yield "        self.stem = nn.Sequential("
        yield from (f"            {layer}," for layer in _stem(architecture))
        yield "        )"
    else:
        yield "        self.stem = nn.Sequential()"
    yield "        self.inception = nn.ModuleList("
    yield "            ["
    for widths, shape in zip(architecture.modules, shapes, strict=False):
        yield f"                Inception({', '.join(map(str, (shape[0], *astuple(widths))))}),"
    yield "            ]"
    yield "        )"
    for number, pool in enumerate(architecture.stage_pools, start=1):
        yield f"        self.pool_{number} = {_pool(pool)}"
    if architecture.dropout:
        yield f"        self.dropout = nn.Dropout({architecture.dropout!r})"
    yield f"        self.linear = nn.Linear({shapes[-1][0]}, {architecture.classes})"
    yield ""
    yield f"    def forward(self, x: Tensor) -> Tensor:  # {_shape(architecture.input_shape)}"
    yield f"        x = self.stem(x)  # {_shape(shapes[0])}"
    number = 0
    for stage, modules in enumerate(architecture.stages):
        if stage:
            channels = shapes[number][0]
            yield f"        x = self.pool_{stage}(x)  # {_shape((channels, *shapes[number][1:]))}"
        for widths in modules:
            channels, height, width = shapes[number]
            yield f"        x = self.inception[{number}](x)  # {_shape((widths.out_channels(channels), height, width))}"
            number += 1
    yield f"        x = x.mean((2, 3))  # (N, {shapes[-1][0]})"
    if architecture.dropout:
        yield "        x = self.dropout(x)"
    yield f"        return self.linear(x)  # (N, {architecture.classes})"


def _stem(architecture: Architecture) -> Iterator[str]:
    channels = architecture.input_shape[0]
    norms = architecture.batch_norm or any(isinstance(one, Conv) and one.batch_norm for one in architecture.stem)
    for layer in architecture.stem:
        if isinstance(layer, Conv):
            norm = f", norm={layer.batch_norm}" if norms else ""
            yield (
                f"ConvReLU({channels}, {layer.channels}, {layer.kernel}, stride={layer.stride}, "
                f"padding={layer.padding}, bias={layer.bias}{norm})"
            )
            channels = layer.channels
        elif isinstance(layer, MaxPool):
            yield _pool(layer)
        elif isinstance(layer, LocalResponseNorm):
            yield f"LocalResponseNorm({layer.size}, alpha={layer.alpha!r}, beta={layer.beta!r}, k={layer.k!r})"
        else:
            raise ExportError(
                f"model.py: there is no way yet to write a layer {type(layer).__name__!r}; leave source and "
                "safetensors out of --format"
            )


def _pool(pool: MaxPool) -> str:
    return f"nn.MaxPool2d({pool.kernel}, stride={pool.stride}, padding={pool.padding}, ceil_mode={pool.ceil})"


def _shape(shape: tuple[int, int, int]) -> str:
    return f"(N, {', '.join(map(str, shape))})"


def _constant(name: str, values: Sequence[str]) -> str:
    """A tuple on one line where it fits, else one value a line."""
    line = f"{name} = ({', '.join(values)}{',' if len(values) == 1 else ''})"
    if len(line) <= LINE - 48:  # room for a comment
        return line
    return "\n".join([f"{name} = (", *(f"    {value}," for value in values), ")"])


def _quoted(text: str) -> str:
    """A Python literal of any text, in double quotes unless the others need fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    body = repr(text + "'" + '"')[1:-4].replace("\\'", "'")  # with both in it, repr escapes the single ones alone
    return quote + body.replace(quote, "\\" + quote) + quote


def _in_docstring(text: str) -> str:
    """One line that no text can end or leave: without quotes, escapes and what cannot be printed."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.replace("\\", "/").replace('"', "'").split())
