"""The tables of the studies and of the benchmarks, on small made-up results; and how they get into a page."""

import argparse
import importlib
import sys

import pytest
import records
import step_time
import study
import tables

from tinygan import DataError, recipes, run


def test_table_1_has_the_released_recipes_best_run_by_validation():
    """Not the best on the test set, no departure, and no run that was not measured."""

    def record(seed, validation, test, **departs):
        evaluation = {grid: {"log_likelihood": test, "standard_error": 1.0} for grid in ("authors", "fine")}
        curve = {"5": 999.0, "10": validation}  # chosen by the epoch that was measured, not by the curve's best
        facts = {"departs_in": departs, "seed": seed, "evaluated_at_epoch": 10, "validation_log_likelihoods": curve}
        return facts | {"evaluation": evaluation if test else {}}

    made = [record(0, 50.0, 90.0), record(1, 60.0, 55.0), record(2, 70.0, None), record(3, 80.0, 80.0, k=2)]
    row = study.table_1(dict(enumerate(made))).splitlines()[-1]
    assert "55.0 ± 1.0 (55.0), epoch 10, seed 1, the best of 2 by validation" in row


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("mnist.py", "--generator-width 16 --calm"),
        ("mnist.py", "--size 5 --smoke"),
        ("cifar10.py", "--model convolutional --scale 8 --learning-rate 0.01"),
        ("cifar10.py", "--model fully-connected --calm --smoke"),
        ("dcgan.py", "--width 8 --no-batch-norm --weight-range 0.1"),
        ("dcgan.py", "--learning-rate 0.1 --k 2 --smoke"),  # η is the default of mnist.py
    ],
)
def test_the_command_of_a_run_is_its_own_scripts_and_gives_its_settings(script, options, monkeypatch):
    def settings(*words):
        monkeypatch.setattr(sys, "argv", list(words))
        args = vars(importlib.import_module(script.removesuffix(".py")).parse_arguments())
        return {name: value for name, value in args.items() if name not in (*run.FREE, "backend")}

    expected = settings(script, *options.split(), "--seed", "3", "--variant", "printed")
    data = "mnist" + run.SMOKE * ("--smoke" in options)
    facts = {"options": {"script": script}, "configuration": expected | {"data": data, "generator_cost": "minimax"}}
    python, path, *words = study.command(facts, 7).split()
    assert (python, path) == ("python", f"examples/{script}")
    assert settings(path, *words) | {"generator_cost": None} == expected
    assert " ".join(words).startswith("--data MNIST --seed 3 --epochs 7")
    assert ("--smoke" in words) == ("--smoke" in options)


def test_a_run_from_before_scripts_were_recorded_is_of_mnist_py():
    facts = {"configuration": recipes.MNIST | {"data": "images-faces", "generator_cost": "non_saturating"}}
    assert study.command(facts, 1) == "python examples/mnist.py --data DIR --seed 0 --epochs 1"


def test_a_departure_is_read_beside_the_released_recipe_with_the_same_seeds():
    """At the last epoch that all of them have; no departure in two things, and none of a single seed."""

    def record(seed, curve, **departs):
        curve = {str(epoch): nats for epoch, nats in curve.items()}
        return {"seed": seed, "variant": "simultaneous", "departs_in": departs, "validation_log_likelihoods": curve}

    made = [
        record(0, {9: 1.0, 20: 10.0, 30: 50.0}),
        record(1, {9: 2.0, 20: 20.0}),
        record(2, {9: 3.0}),
        record(0, {9: 9.0, 20: 14.0, 30: 99.0}, k=2),
        record(1, {9: 9.0, 20: 44.0, 30: 99.0}, k=2),
        record(4, {9: 9.0, 20: 9.0, 30: 99.0}, k=2),  # the recipe was not run with this seed
        record(0, {9: 41.0}, learning_rate=0.2),
        record(1, {9: 32.0}, learning_rate=0.2),
        record(0, {9: 7.0}, calm=True),
        record(0, {9: 9.0}, k=2, calm=True),
        record(1, {9: 9.0}, k=2, calm=True),
    ]
    assert study.table_of_departures(dict(enumerate(made))).splitlines()[2:] == [
        "| learning rate 0.2 | 0, 1 | 9 | 41, 32 | 1, 2 | +35 ± 5 |",
        "| k 2 | 0, 1 | 20 | 14, 44 | 10, 20 | +14 ± 10 |",  # of 4 and 24: s.e. = √200/√2
    ]


def game(variant, seed, values, reading, **departs):
    departs = ({} if variant == "simultaneous" else {"variant": variant}) | departs
    traces = [{"epoch": epoch, "value": value} for epoch, value in enumerate(values, 1)]
    facts = {"variant": variant, "seed": seed, "departs_in": departs, "traces": traces, "epochs": len(values)}
    return facts | {"reading": reading, "diverged": None if reading else "in an iteration"}


RUNS = dict(
    enumerate(
        [
            game("simultaneous", 1, [-1.0] * 10 + [-0.2] * 5, "learning: over the last 5 epochs"),
            game("simultaneous", 0, [-0.5] * 10, "learning: over the last 5 epochs"),
            game("simultaneous", 0, [-0.7] * 10, "learning: over the last 5 epochs", k=2),  # a departure: not in the tables
            game("alternating", 0, [-0.9] * 9 + [-0.001], "D has won: G is stuck and collapsed to 1 distinct sample: …"),
            game("alternating", 3, [-0.25] * 10, "learning: over the last 5 epochs"),
            game("printed", 0, [-0.3, -0.002], None),
            game("printed", 1, [-0.1], None),
        ]
    )
)


def test_the_variants_are_compared_after_ten_epochs_with_the_released_hyper_parameters():
    assert study.table_of_variants(RUNS).splitlines()[2:] == [
        "| `simultaneous` | 2 of 2 |  | -0.500, -1.000 |",
        "| `alternating` | 1 of 2: seed 3 | 0 | -0.001, -0.250 |",
        "| `printed` | 0 of 2 | 0 | diverged @3, diverged @2 |",
    ]


def test_what_lies_between_two_variants_learns_by_the_criterion_of_a_reading():
    def record(choice, seed, value, distinct):
        return {"choice": choice, "seed": seed, "curve": [{"value": -9.0}, {"value": value}], "distinct_of_1000": distinct}

    between = [
        record("old-fresh-fresh", 0, -0.01, 100),
        record("old-fresh-fresh", 1, -0.5, 1000),
        record("new-same-same", 0, -0.009, 1000),  # D has won
        record("new-same-same", 1, -0.5, 99),  # G has collapsed
        record("new-same-same", 2, -0.5, 500),
    ]
    assert study.table_of_order(RUNS, between).splitlines()[2:] == [
        "| at the old θ_d | 2 of 2 (`simultaneous`) | 2 of 2 |",
        "| at the new θ_d | 1 of 3: seed 2 | 1 of 2: seed 3 (`alternating`) |",
    ]


def test_the_slopes_are_those_of_straight_lines(monkeypatch):
    monkeypatch.setattr(study, "WINDOWS", (10, 50, 90))
    curve = {str(epoch): 0.5 * epoch if epoch <= 50 else 37.5 - epoch / 4 for epoch in range(0, 100, 10)}
    rows = study.table_of_slopes({"validation_log_likelihoods": curve}).splitlines()[2:]
    assert rows == ["| 10 to 50 | 0.500 ± 0.000 | 0.0 |", "| 50 to 90 | -0.250 ± 0.000 | 0.0 |"]


def test_a_record_replaces_the_one_of_its_key_and_no_other(tmp_path):
    path, key = tmp_path / "records.json", ("run", "seed")
    assert records.read_records(path) == []
    for record in {"run": "a", "seed": 0, "x": 1}, {"run": "a", "seed": 1, "x": 2}, {"run": "a", "seed": 0, "x": 3}:
        records.keep_record(path, record, key)
    assert [record["x"] for record in records.read_records(path)] == [2, 3]


def test_a_contestant_is_compared_with_the_products_of_its_own_variant():
    times = {
        "floor, alternating": [2.0, 2.0, 1.0],
        "tinygan, alternating": [3.0, 3.0, 3.0],
        "floor, simultaneous": [1.0, 1.0, 1.0],
        "tinygan, simultaneous": [2.0, 1.5, 9.0],
        "torch": [4.0, 4.5, 5.0],
    }
    sizes = {"batch_size": 1, "width": 500, "d_width": 500, "pieces": 1}

    def work(variant):
        return f"{step_time.gflop(step_time.products(variant, 1, *step_time.shapes(500, 500, 1))):.2f} GFLOP"

    assert step_time.table({"threads": 1, "milliseconds": times} | sizes).splitlines()[2:] == [
        f"| the matrix products of `alternating` ({work('alternating')}) | 2.0 (1.0 … 2.0) | 1.0 | 1.00 |  |",
        "| **tinygan**, `alternating` | 3.0 (3.0 … 3.0) | 3.0 | 1.50 | 1.50 |",
        "| PyTorch eager, foreach SGD, `alternating` | 4.5 (4.0 … 5.0) | 4.0 | 2.25 | 1.00 |",
        f"| the matrix products of `simultaneous` ({work('simultaneous')}) | 1.0 (1.0 … 1.0) | 1.0 | 1.00 |  |",
        "| **tinygan**, `simultaneous` | 2.0 (1.5 … 9.0) | 1.5 | 2.00 | less work |",
    ]


def test_the_paper_sized_iteration_has_the_work_that_its_shapes_say():
    """Counted by hand: 2 rows n_in n_out for each product; D's two passes of the data and the samples are one of 200 rows."""
    G = 100 * 1200 + 1200 * 1200 + 1200 * 784
    D = 784 * 1200 + 240 * 1200 + 240
    forward_and_back = 100 * (G + G - 100 * 1200 + G) + 200 * (D + D + D - 784 * 1200) + 100 * D  # dx of D in G's step
    alternating = forward_and_back + 100 * (G + D)  # and a second sample, and D's look at it
    shapes = step_time.shapes(1200, 240, 5)
    assert step_time.gflop(step_time.products("simultaneous", 100, *shapes)) == pytest.approx(2e-9 * forward_and_back)
    assert step_time.gflop(step_time.products("alternating", 100, *shapes)) == pytest.approx(2e-9 * alternating)


def test_the_size_that_the_sweep_states_is_that_of_the_three_vectors():
    args = argparse.Namespace(width=20, d_width=6, pieces=3, batch_size=5, learning_rate=0.1, variant="alternating")
    gan = step_time.make_tinygan(args, step_time.initial(args), dropout=True).gan
    optimizers = (gan.G_optimizer, gan.G_grad), (gan.D_optimizer, gan.D_grad)
    held = sum(o.theta.nbytes + o.velocity.nbytes + grad.nbytes for o, grad in optimizers)
    assert step_time.vectors_size(*step_time.shapes(args.width, args.d_width, args.pieces)) == held


PAGE = "a\n<!-- table x -->\n\n| old |\n\n<!-- end of table x -->\nb\n<!-- table y --><!-- end of table y -->\n"


@pytest.mark.parametrize("filled", [records.filled, tables.filled], ids=["study", "speed"])
class TestFilled:
    """The two twins: no import may lead from one folder into the other."""

    @pytest.fixture
    def page(self, tmp_path):
        (tmp_path / "page.md").write_text(PAGE)
        return tmp_path / "page.md"

    def test_what_stands_between_the_markers_is_replaced_and_nothing_else(self, filled, page):
        assert filled(page, {"x": "| new |"}) == PAGE.replace("old", "new")
        assert filled(page, {"x": "| old |"}) == PAGE
        full = filled(page, {"y": "| 1 |", "x": "| 2 |"})
        assert full == PAGE.replace("old", "2").replace("y --><", "y -->\n\n| 1 |\n\n<")
        page.write_text(full)
        assert filled(page, {"y": "| 1 |", "x": "| 2 |"}) == full

    @pytest.mark.parametrize(
        ("text", "marker"),
        [
            ("", "<!-- table x -->"),
            ("<!-- table x -->", "<!-- end of table x -->"),
            ("<!-- end of table x -->\n<!-- table x -->", "<!-- end of table x -->"),
            (PAGE + PAGE, "<!-- table x -->"),
        ],
    )
    def test_an_error_names_the_page_and_the_marker(self, filled, page, text, marker):
        page.write_text(text)
        with pytest.raises(DataError) as caught:
            filled(page, {"x": "| new |"})
        assert str(page) in str(caught.value)
        assert marker in str(caught.value)
