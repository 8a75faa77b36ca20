"""Checkpoints of format 1, of a GAN's four vectors alone, as tinygan wrote them before it knew other models: still read."""

import json
import re

import numpy as np
import pytest
from helpers import bits, discriminator, everything, forge, generator, member, rewrite
from strict_cupy import host

from tinygan import (
    VARIANTS,
    Adam,
    CheckpointError,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    Trainer,
    learning_rate_schedule,
    load_checkpoint,
)

NAMES = {"theta_g": "G.theta", "theta_d": "D.theta", "v_g": "G.velocity", "v_d": "D.velocity"}
FIELDS = {
    "format": 1,
    "epoch": 2,
    "updates": {"G": 20, "D": 40},
    "architecture": {"G": "Network([Linear(3, 4)])", "D": "Network([Linear(4, 1)])"},
    "metrics": [{"epoch": 1, "value": -1.25}],
    "configuration": {"variant": "simultaneous", "η": 0.1},
}
DIGEST = "ee2a8da954e8157837eb6d21375974c666ec8705a1fc232f901ce58204b5387a"
"""That of the file below, as the code of format 1 wrote it."""


def old_vectors():
    return {name: np.arange(5 + (name[-1] == "d"), dtype=np.float32) / 4 for name in NAMES}


def text(**changes):
    return {"text": member(np.frombuffer(json.dumps(FIELDS | changes).encode(), np.uint8))}


@pytest.fixture
def path(tmp_path):
    forge(tmp_path / "old.npz", old_vectors(), FIELDS)
    return tmp_path / "old.npz"


def test_the_file_of_these_tests_is_the_one_that_format_1_wrote(path):
    with np.load(path) as arrays:
        assert list(arrays) == ["theta_g", "theta_d", "v_g", "v_d", "text", "digest"]
        assert arrays["digest"].tobytes().hex() == DIGEST


def test_it_is_loaded_under_the_names_of_format_2(path):
    loaded = load_checkpoint(path)
    assert {name: (a.dtype, a.tolist()) for name, a in loaded.vectors.items()} == {
        NAMES[name]: (a.dtype, a.tolist()) for name, a in old_vectors().items()
    }
    assert {name: getattr(loaded, name) for name in FIELDS if name != "format"} | {"format": 1} == FIELDS


def test_its_digest_is_over_the_vectors_in_this_order_whatever_their_order_in_the_file(path):
    expected = load_checkpoint(path)
    first = old_vectors()["theta_g"]
    rewrite(path, {"theta_g": None})
    rewrite(path, {"theta_g": member(first)})
    loaded = load_checkpoint(path)
    assert bits(loaded.vectors["G.theta"]) == bits(expected.vectors["G.theta"])
    assert set(loaded.vectors) == set(expected.vectors)


@pytest.mark.parametrize("vector", NAMES)
def test_a_vector_that_was_tampered_with_is_refused(path, vector):
    rewrite(path, {vector: member(old_vectors()[vector] + 1)})
    with pytest.raises(CheckpointError, match=r"old\.npz: altered"):
        load_checkpoint(path)


def test_a_text_that_was_tampered_with_is_refused(path):
    rewrite(path, text(epoch=3))
    with pytest.raises(CheckpointError, match=r"old\.npz: altered"):
        load_checkpoint(path)


def test_any_byte_changed_is_refused_or_says_the_same_and_no_part_of_it_is_taken(path):
    good, expected = path.read_bytes(), load_checkpoint(path)
    refused, places = 0, range(0, len(good), 11)
    for i in places:
        path.write_bytes(good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :])
        try:
            assert repr(load_checkpoint(path)) == repr(expected), f"byte {i}"
        except CheckpointError:
            refused += 1
        path.write_bytes(good[:i])
        with pytest.raises(CheckpointError, match=r"old\.npz: damaged"):
            load_checkpoint(path)
    assert refused > 0.6 * len(places)


DAMAGE = {
    "an array missing": {"v_d": None},
    "θ missing": {"theta_g": None, "v_g": None},
    "an array too many": {"theta_e": member(np.zeros(5, np.float32))},
    "a vector of format 2 too": {"E.theta": member(np.zeros(5, np.float32))},
    "a velocity of another length": {"v_g": member(np.zeros(4, np.float32))},
    "two dimensions": {"theta_d": member(np.zeros((6, 1), np.float32))},
    "integers": {"theta_d": member(np.zeros(6, np.int32))},
    "strings": {"theta_d": member(np.array(["a" * 9]))},
    "the text of format 2": text(format=2),
    "of format 0": text(format=0),
    "no updates of D": text(updates={"G": 20}),
    "a text of other types": text(metrics={}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_one_is_refused(path, what):
    rewrite(path, DAMAGE[what])
    with pytest.raises(CheckpointError, match=r"old\.npz: damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("vectors", "version"),
    [
        (old_vectors(), 2),
        ({NAMES[name]: vector for name, vector in old_vectors().items()}, 1),
        (old_vectors() | {"G.statistics": np.zeros(2, np.float32)}, 1),
    ],
)
def test_names_of_one_format_under_the_number_of_the_other_are_refused_though_the_digest_is_right(path, vectors, version):
    forge(path, vectors, FIELDS | {"format": version})
    with pytest.raises(CheckpointError, match=r"old\.npz: damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_name(path, value):
    bad = old_vectors()
    bad["v_d"][3] = value
    forge(path, bad, FIELDS)
    with pytest.raises(CheckpointError, match=r"old\.npz: v_d has values that are not finite"):
        load_checkpoint(path)


def test_another_architecture_is_refused_by_repr(path):
    same, other = Network([Linear(3, 4)]), Network([Linear(3, 4), Linear(4, 4)])
    assert load_checkpoint(path, {"G": same}).epoch == 2
    for player, network in (("G", other), ("G", Network([Linear(3, 5)])), ("D", same), ("E", same)):
        found = re.escape(str(FIELDS["architecture"].get(player)))
        with pytest.raises(CheckpointError, match=rf"old\.npz: .*architecture: its {player} is {found}"):
            load_checkpoint(path, {player: network})


# ---------------------------------------------------------------------------------------------------------------------
# A run that format 1 began
# ---------------------------------------------------------------------------------------------------------------------


def rate(t):
    return learning_rate_schedule(t, 0.1, decay=1.01)


def run(xp=np, variant="simultaneous", optimizer=MomentumSGD, dtype=np.float32, seed=1, **options):
    G, D = generator(dtype, xp, seed), discriminator(dtype, xp, seed + 1, keep=0.5)
    players = (optimizer(network.theta, rate) for network in (G, D))
    gan = VARIANTS[variant](G, D, *players, noise=Noise("uniform", 3), batch_size=5, **options)
    train, validation = np.random.default_rng(0).integers(0, 256, (2, 40, 4), dtype=np.uint8)
    return Trainer(gan, train, validation, seed=7)


def save_as_format_1(path, trainer):
    """What the code of format 1 kept of such a run."""
    G, D = (trainer.model.players[name] for name in "GD")
    vectors = dict(
        zip(NAMES, map(host, (G.network.theta, D.network.theta, G.optimizer.velocity, D.optimizer.velocity)), strict=True)
    )
    fields = FIELDS | {
        "epoch": trainer.epoch,
        "updates": {"G": G.optimizer.updates, "D": D.optimizer.updates},
        "architecture": {"G": repr(G.network), "D": repr(D.network)},
        "metrics": trainer.metrics,
    }
    forge(path, vectors, fields)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_resumes_and_equals_the_run_that_never_stopped_bit_for_bit(xp, tmp_path, variant):
    whole, resumed = run(xp, variant, k=2), run(xp, variant, k=2, seed=5)
    for _ in range(4):
        whole.train_epoch()
        if whole.epoch == 2:
            save_as_format_1(tmp_path / "c.npz", whole)
    assert resumed.restore(tmp_path / "c.npz").configuration == FIELDS["configuration"]
    for _ in range(2):
        resumed.train_epoch()
    assert everything(resumed) == everything(whole)


def test_what_is_saved_then_is_format_2(tmp_path):
    begun, resumed = run(), run(seed=5)
    begun.train_epoch()
    save_as_format_1(tmp_path / "c.npz", begun)
    resumed.restore(tmp_path / "c.npz")
    for trainer, name in ((resumed, "c.npz"), (begun, "new.npz")):
        trainer.save(tmp_path / name)
    assert (tmp_path / "c.npz").read_bytes() == (tmp_path / "new.npz").read_bytes()
    with np.load(tmp_path / "c.npz") as arrays:
        assert json.loads(arrays["text"].tobytes())["format"] == 2
        assert set(arrays) == {*NAMES.values(), "text", "digest"}
    assert load_checkpoint(tmp_path / "c.npz").architecture["G"] == begun.model.G.describe()


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"optimizer": Adam}, ["G.velocity", "G.first_moment"]),
        ({"dtype": np.float64}, ["G.theta", "float32", "float64"]),
    ],
)
def test_another_optimiser_and_another_dtype_are_refused_and_change_nothing(tmp_path, options, facts):
    begun, other = run(), run(**options)
    begun.train_epoch()
    save_as_format_1(tmp_path / "c.npz", begun)
    before = everything(other)
    with pytest.raises(CheckpointError) as caught:
        other.restore(tmp_path / "c.npz")
    assert all(fact in str(caught.value) for fact in (str(tmp_path / "c.npz"), *facts))
    assert everything(other) == before
