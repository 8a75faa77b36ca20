"""Figure 2 of the paper, from the runs that you name: samples of each, beside the training examples nearest to them.

    python examples/figure2.py RUN RUN RUN RUN    figure2.png, in a new folder under runs/

A RUN is the folder of a run, or a checkpoint. Its data and its generator say which panel it is: a) MNIST, b) TFD,
c) CIFAR-10 with a fully connected model, d) CIFAR-10 with a convolutional model. Fewer runs give fewer panels.

The samples are the first that the seed gives. None is picked. A framed image, in the last column, is the training example
nearest to the sample on its left. A title says where other images stand in for the paper's data set.
"""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sample import normalised_pixels

from tinygan import Array, DataError, generate, load_cifar10, load_mnist, load_tfd, random_generator, run, to_host
from tinygan.datasets import Dataset, contrast_pixels
from tinygan.images import enlarge, neighbour_grid, save_png

ROWS, COLUMNS = 6, 8  # of a panel; the last column has the nearest training examples
TILE = 64  # pixels: small images are drawn so many times as large that they come near it
ACROSS = 2  # panels beside each other
FONT, LINE, MARGIN = 14, 20, 12  # pixels: of the titles, and around the panels


def as_they_are(images: Array) -> Array:
    return images


class Kind(NamedTuple):
    """Data sets of one format: the paper's name for them, how they are found, and how rows become images with values in
    [0, 1] or uint8: the samples of a generator, and the data set's own rows."""

    name: str
    load: Callable[[str | None], Dataset]
    samples_as_images: Callable[[Array], Array] = as_they_are
    rows_as_images: Callable[[Array], Array] = as_they_are


MNIST = Kind("MNIST", load_mnist)
TFD = Kind("TFD", load_tfd)
CIFAR10 = Kind("CIFAR-10", load_cifar10, contrast_pixels, normalised_pixels)
KINDS = {"mnist": MNIST, "idx-": MNIST, "tfd": TFD, "mat-": TFD, "cifar10": CIFAR10, "bin-": CIFAR10}
"""By what the name of a data set begins with."""

LETTERS = {("MNIST", False): "a", ("TFD", False): "b", ("CIFAR-10", False): "c", ("CIFAR-10", True): "d"}
"""The paper's panels, by the data set and whether G is convolutional."""


class Panel(NamedTuple):
    title: str
    picture: Array


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or a checkpoint")
    for name in dict.fromkeys(kind.name for kind in KINDS.values()):
        add(f"--{option(name)}", metavar="DIR", help=f"where the files of {name} are (default: where the run found them)")
    add("--seed", type=run.natural, default=0, metavar="S", help="decides the noise (default: %(default)s)")
    add("--enlarge", "--scale", type=run.positive, default=1, metavar="N", help="enlarge the figure N times")
    add("--out", type=Path, metavar="DIR", help="folder to write into (default: a new one under runs/)")
    return parser.parse_args()


def option(name: str) -> str:
    """--cifar10 is the option for CIFAR-10's folder."""
    return name.lower().replace("-", "")


def kind_of(path: Path, settings: dict[str, Any]) -> Kind:
    """What a run was trained on. Raises DataError for data that this script does not know."""
    if "data" not in settings:
        raise DataError(f"{path}: it does not say which data it was trained on: name the folder of a run")
    data = str(settings["data"])
    for beginning, kind in KINDS.items():
        if data.startswith(beginning):
            return kind
    names = " and ".join(dict.fromkeys(kind.name for kind in KINDS.values()))
    remedy = f"python examples/sample.py {shlex.quote(str(path))} --nearest"
    raise DataError(
        f"{path}: its run was trained on {data}, but Figure 2 is only of the paper's data sets, here {names}: "
        f"draw the samples of this run, and the training examples nearest to them, with\n  {remedy}"
    )


def panel_of(path: Path, options: dict[str, Any]) -> Panel:
    """The panel of one run, with the options of this script."""
    checkpoint, generator = run.load_run(path)
    settings = checkpoint.configuration
    kind = kind_of(path, settings)
    dataset = run.trained_on(settings, kind.load(options[option(kind.name)] or run.data_of(path)))
    rng = random_generator(generator.network.xp, options["seed"], "nearest")  # so they are those of sample.py --nearest
    samples = to_host(generate(generator, ROWS * (COLUMNS - 1), rng))
    images = kind.rows_as_images(dataset.train.images)
    picture = neighbour_grid(kind.samples_as_images(samples), images, dataset.image_shape, COLUMNS)
    times = max(1, round(TILE / max(dataset.image_shape[:2])))
    return Panel(title(kind, dataset, generator, settings, checkpoint.epoch), enlarge(picture, times * options["enlarge"]))


def title(kind: Kind, dataset: Dataset, generator: Any, settings: dict[str, Any], epoch: int) -> str:
    """The panel's letter, its data, and the run, in two lines. Stand-ins are named."""
    convolutional = "ConvTranspose2d" in repr(generator.network)
    letter = LETTERS.get((kind.name, convolutional))
    words = f"{letter}) {kind.name}" if letter else f"{kind.name}, not in the paper's figure"
    words += ", convolutional" if convolutional else ", fully connected"
    if dataset.name != option(kind.name):
        words += f". Stand-in: {dataset.name}, {len(dataset.train):,} images"
    return f"{words}\n{settings.get('variant')}, seed {settings.get('seed')}, epoch {epoch}"


def arranged(panels: list[Panel], scale: int) -> Array:
    """One picture (H, W, 3) uint8: the panels in reading order, each below its title. scale: of the titles and margins."""
    font_size, line, margin = scale * FONT, scale * LINE, scale * MARGIN
    font: Any = ImageFont.load_default(font_size)
    width = margin + max(max(panel.picture.shape[1], *text_widths(panel, font)) for panel in panels)
    rows = [panels[i : i + ACROSS] for i in range(0, len(panels), ACROSS)]
    heights = [max(panel.picture.shape[0] for panel in row) + 2 * line + margin for row in rows]
    size = margin + width * min(ACROSS, len(panels)), margin + sum(heights)
    sheet = Image.new("RGB", size, "white")
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            left, top = margin + j * width, margin + sum(heights[:i])
            ImageDraw.Draw(sheet).text((left, top), panel.title, "black", font, spacing=line - font_size)
            sheet.paste(Image.fromarray(panel.picture), (left, top + 2 * line))
    return np.asarray(sheet)


def text_widths(panel: Panel, font: Any) -> list[int]:
    return [round(font.getlength(line)) for line in panel.title.splitlines()]


def program() -> None:
    args = parse_arguments()
    panels = sorted((panel_of(path, vars(args)) for path in args.runs), key=lambda panel: panel.title)
    out = run.open_folder("figure2", args.out)
    save_png(out / "figure2.png", arranged(panels, args.enlarge))
    print("\n".join(panel.title for panel in panels))
    print(f"{out / 'figure2.png'}: a frame holds the training example nearest to the sample on its left")


if __name__ == "__main__":
    run.main(program)
