"""The whole training loop, from the data to the samples.

    python examples/first_loop.py            a minute on two cores; writes runs/first_loop.png
    python examples/first_loop.py --smoke    ten iterations, in seconds

G turns noise z into images. D judges whether an image comes from the data. In each iteration both learn. D tells data from
samples of G a little better. More samples of G pass as data.

Batch norm is newer than the paper. With it G learns in a minute. The paper's own nets are in examples/mnist.py.
"""

import argparse
from pathlib import Path

from tinygan import Batch, MomentumSGD, Network, Noise, Simultaneous, Streams, bias_from_marginals, guard, load_mnist, pixels
from tinygan.console import prepare_streams
from tinygan.images import image_grid, save_png
from tinygan.layers import Dropout, Linear, Maxout, ReLU, Sigmoid
from tinygan.normalisation import BatchNorm

prepare_streams()  # any text in any encoding; `… | head -1` does not end the training
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--smoke", action="store_true", help="only ten iterations, and no download")
smoke = parser.parse_args().smoke

images = load_mnist(download=not smoke).train.images  # uint8, (n, 784)
bias = bias_from_marginals(images)  # where G starts: at the mean image
G = Network([Linear(100, 128), BatchNorm(128), ReLU(), Linear(128, 784, bias=bias), Sigmoid()], seed=0)
D = Network([Dropout(0.8), Maxout(784, 32, 4), Dropout(0.5), Linear(32, 1)], seed=1)  # ends in the logit a: D(x) = σ(a)
optimizers = [MomentumSGD(network.theta, lambda t: 0.1 * 0.9997**t, momentum=0.5) for network in (G, D)]
gan = Simultaneous(G, D, *optimizers, noise=Noise("uniform", 100), batch_size=100)

streams = Streams(seed=0)  # a stream of random numbers for each purpose
iterations = 10 if smoke else 8000
for i in range(1, iterations + 1):
    rows = streams["data"].integers(0, len(images), size=100)
    batch = Batch(pixels(images[rows]))  # floats in [0, 1]
    costs = gan.iteration(iter([batch]), streams)
    guard(costs, gan.players, f"iteration {i}")  # stops where a cost is not a finite number
    if i % (iterations // 10) == 0:
        print(f"iteration {i} of {iterations}:", ", ".join(f"{name} {cost:.2f}" for name, cost in costs.items()), flush=True)

Path("runs").mkdir(exist_ok=True)
save_png("runs/first_loop.png", image_grid(gan.sample(100, rng=0), (28, 28)))
print("100 samples: runs/first_loop.png")
