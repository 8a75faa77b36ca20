"""The curves of a run."""

from pathlib import Path
from typing import Any

import numpy as np

from tinygan.backend import write_atomically


def draw_curves(path: Path, metrics: list[dict[str, Any]], title: str) -> None:
    """V, D(x) and D(G(z)), the two costs, and the validation log-likelihood, by epoch."""
    try:
        from matplotlib.figure import Figure
    except ImportError:  # Run.start has said so
        return

    panels: tuple[tuple[str, dict[str, str], float | None], ...] = (
        ("V(D, G), nats", {"value": "V"}, -float(np.log(4))),
        ("D on held-out images and on samples", {"D_x": "D(x)", "D_G_z": "D(G(z))"}, 0.5),
        ("training costs, nats", {"discriminator_cost": "J(D)", "generator_cost": "J(G)"}, None),
        ("validation log-likelihood, nats", {"validation_log_likelihood": "Parzen window"}, None),
    )
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axis, (name, lines, equilibrium) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for key, label in lines.items():
            rows = [row for row in metrics if key in row]
            axis.plot([row["epoch"] for row in rows], [row[key] for row in rows], ".-", markersize=4, label=label)
        if equilibrium is not None:
            axis.axhline(equilibrium, color="grey", linestyle=":", label="where D = ½ everywhere")
        axis.set(title=name, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    figure.suptitle(title)
    with write_atomically(path) as file:
        figure.savefig(file, format="png", dpi=80)
