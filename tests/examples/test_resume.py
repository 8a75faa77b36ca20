"""--resume: the run's own options, those that contradict them, and folders that hold no run."""

import json
import os

import cifar10
import dcgan
import mnist
import pytest
import sample
from helpers import SMALL, refused, rows

import tinygan.run
from tinygan import CheckpointError, load_checkpoint, load_mnist
from tinygan.run import COLUMNS

pytestmark = pytest.mark.slow


def numbers(folder):
    return (folder / "checkpoint.npz").read_bytes(), [row[: len(COLUMNS)] for row in rows(folder)]


def facts(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.fixture
def resume(call):
    """resume(folder, …): the command without any of the run's own options."""
    return lambda folder, *arguments: call(mnist.program, "--out", folder, "--resume", *arguments)


OWN = ["--seed", 3, "--k", 2, "--variant", "printed", "--calm", "--prior", "gaussian", "--dtype", "float64"]
OWN += ["--learning-rate", 0.05, "--schedule-compression", 2.5]
FREE = ["--picture-every", 1, "--keep-checkpoints", 2, "--checkpoint-every", 3]


def test_a_run_resumes_with_its_own_options_where_none_is_given(run, resume, data, monkeypatch, tmp_path):
    whole = run("whole", *OWN, *FREE, "--epochs", 4)
    folder = run("parts", *OWN, *FREE, "--epochs", 2, "--data", os.path.relpath(data))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume(folder, "--epochs", 4)
    assert numbers(folder) == numbers(whole)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert facts(folder)["options"] == facts(whole)["options"] | {"data": str(data)}
    assert facts(folder)["every"] == facts(whole)["every"] == {"picture": 1, "checkpoint": 3, "evaluation": 2}


def test_what_is_free_may_be_given_again(run, resume):
    folder = run("a", *FREE, "--epochs", 1)
    resume(folder, "--epochs", 2, "--picture-every", 2, "--evaluate-every", 1)
    assert facts(folder)["every"] == {"picture": 2, "checkpoint": 3, "evaluation": 1}
    assert facts(folder)["options"]["keep_checkpoints"] == 2


def test_a_run_without_a_checkpoint_starts_again_with_its_own_options(run, resume):
    folder = run("a", *OWN, "--epochs", 2, "--picture-every", 1)
    before = numbers(folder)
    (folder / "checkpoint.npz").unlink()
    stopped = {name: value for name, value in facts(folder).items() if name != "results"}
    (folder / "run.json").write_text(json.dumps(stopped))
    resume(folder)
    assert numbers(folder) == before
    assert (facts(folder)["epochs"], facts(folder)["every"]["picture"]) == (2, 1)


def test_with_the_checkpoint_alone_the_options_that_decide_numbers_are_known(run, resume, data):
    whole, folder = (run(name, *OWN, "--epochs", epochs) for name, epochs in (("whole", 3), ("a", 2)))
    (folder / "run.json").unlink()
    resume(folder, "--data", data, "--epochs", 3, "--evaluate-every", 2)
    assert numbers(folder) == numbers(whole)


def test_fewer_epochs_than_the_run_has_are_refused(run, resume):
    folder = run("a", "--epochs", 2)
    before = facts(folder), numbers(folder)
    with refused("--epochs 1", 2, error=CheckpointError):
        resume(folder, "--epochs", 1)
    assert (facts(folder), numbers(folder)) == before


def test_a_smoke_run_resumes_as_a_smoke_run(run, resume):
    whole, folder = (run(name, "--smoke", "--epochs", epochs) for name, epochs in (("whole", 3), ("a", 1)))
    resume(folder, "--epochs", 3)
    assert numbers(folder) == numbers(whole)
    assert load_checkpoint(folder / "checkpoint.npz").configuration["data"].endswith("-smoke")


@pytest.mark.slow
@pytest.mark.parametrize("smoke", [[], ["--smoke"]])
def test_a_run_on_the_5000_images_stays_with_them_when_mnist_is_there(call, data, smoke, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "a"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is cached
    monkeypatch.setenv("TINYGAN_DATA", str(tmp_path))
    monkeypatch.setattr("tinygan.datasets.mnist.fetch", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    call(mnist.program, "--out", folder, *SMALL, "--batch-size", 500, "--epochs", 1, *smoke)
    assert facts(folder)["configuration"]["data"].startswith("mnist-subset")
    (tmp_path / "mnist").symlink_to(data)  # since then, another set was put where MNIST is looked for
    assert load_mnist().name.startswith("idx-")
    capsys.readouterr()
    call(mnist.program, "--out", folder, "--resume", "--epochs", 2)
    call(sample.program, folder, "--nearest", "--backend", "numpy")
    call(mnist.program, "--evaluate", folder, "--backend", "numpy")
    assert load_checkpoint(folder / "checkpoint.npz").epoch == 2
    assert (folder / "nearest.png").exists()
    assert capsys.readouterr().err.count("asked for by its name") == 3


def test_what_run_json_says_is_checked_as_if_it_were_given(run, resume, capsys):
    folder = run("a", "--epochs", 1)
    (folder / "checkpoint.npz").unlink()
    for name, value in ("variant", "other"), ("seed", "x"), ("k", -1), ("learning_rate", "fast"):
        damaged = facts(folder)
        damaged["configuration"][name] = value
        (folder / "run.json").write_text(json.dumps(damaged))
        with pytest.raises(SystemExit):
            resume(folder)
        assert f"--{name.replace('_', '-')}" in capsys.readouterr().err
        damaged["configuration"][name] = mnist.recipes.MNIST[name]
        (folder / "run.json").write_text(json.dumps(damaged))


CONTRADICTIONS = {
    "seed": ["--seed", 1],
    "calm": ["--calm"],
    "generator_width": ["--generator-width", 17],
    "variant": ["--variant", "printed"],
    "batch_size": ["--batch-size", 11],
    "dtype": ["--dtype", "float64"],
    "generator_cost": ["--generator-cost", "minimax"],
    "smoke": ["--smoke"],
}


@pytest.mark.parametrize("checkpoint", [True, False])
def test_an_option_that_contradicts_the_runs_is_refused_by_its_name_and_both_values(run, resume, checkpoint):
    folder = run("a", "--epochs", 1)
    saved = facts(folder)["configuration"] | {"smoke": False}
    if not checkpoint:
        (folder / "checkpoint.npz").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, option in CONTRADICTIONS.items():
        given = option[1] if len(option) > 1 else True
        with refused(folder, f"{name} is {saved[name]} ", f" {given} now", error=CheckpointError):
            resume(folder, *option)
    with refused("seed", "calm", error=CheckpointError):
        resume(folder, "--seed", 1, "--calm")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_same_value_is_no_contradiction(run, resume):
    folder = run("a", "--epochs", 1, "--learning-rate", 0.1)
    resume(folder, *SMALL, "--learning-rate", "1e-1", "--generator-cost", "non_saturating")


@pytest.mark.parametrize("program", [dcgan.program, cifar10.program])
def test_a_run_of_a_different_script_is_refused_in_one_line(program, run, call):
    folder = run("a", "--epochs", 1)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError) as caught:
        call(program, "--out", folder, "--resume")
    message = str(caught.value).removeprefix(str(folder))
    assert "mnist.py" in message
    assert f"{program.__module__}.py" in message
    assert "\n" not in message
    assert len(message) < 100
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", [None, 3, ...])
def test_a_run_that_does_not_say_which_script_made_it_resumes_and_says_it_from_then_on(name, run, resume, call, pictures):
    folder = run("a", "--epochs", 1)
    older = facts(folder)
    older["options"]["script"] = name
    older["options"] = {key: value for key, value in older["options"].items() if value is not ...}
    (folder / "run.json").write_text(json.dumps(older))
    with refused("architecture", "layer 0", error=CheckpointError):
        call(dcgan.program, "--out", folder, "--resume", "--data", pictures)
    resume(folder, "--epochs", 2)
    assert facts(folder)["options"]["script"] == "mnist.py"


def test_a_mistyped_folder_is_refused_with_the_nearest_run(run, resume, tmp_path):
    for name in "first", "second":
        run(name, "--epochs", 1)
    for mistyped in "frist", "first/sub", "firs":
        with refused(tmp_path / mistyped, tmp_path / "first", error=CheckpointError):
            resume(tmp_path / mistyped)
        assert not (tmp_path / mistyped).exists()
    with refused(tmp_path, "holds no run", tmp_path / "first", error=CheckpointError):
        resume(tmp_path)  # which holds the two
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_where_there_is_no_run_at_all_the_message_says_so(resume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("a", "no such folder", error=CheckpointError):
        resume("a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [[], ["--smoke"]])
def test_in_an_empty_folder_a_run_starts(run, tmp_path, options):
    (tmp_path / "a").mkdir()
    assert numbers(run("a", "--epochs", 1, "--resume", *options)) == numbers(run("b", "--epochs", 1, *options))


@pytest.mark.parametrize("program", [mnist.program, dcgan.program])
def test_a_measurement_of_a_path_that_is_no_run_names_the_nearest_run(run, call, tmp_path, program):
    run("digits", "--epochs", 1)
    with refused("digit", "no such file or folder", tmp_path / "digits", error=CheckpointError):
        call(program, "--evaluate", tmp_path / "digit")


def test_without_out_the_only_run_under_runs_is_resumed(call, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with refused("--out", "none under runs", error=CheckpointError):
        call(mnist.program, "--resume")
    arguments = ["--data", data, *SMALL, "--epochs", 1]
    call(mnist.program, *arguments)
    (folder,) = (tmp_path / "runs").iterdir()
    call(mnist.program, "--resume", "--epochs", 2)
    assert load_checkpoint(folder / "checkpoint.npz").epoch == 2
    assert f"run: runs/{folder.name}" in capsys.readouterr().err
    call(mnist.program, *arguments, "--out", "runs/other")
    with refused("--out", 2, "runs/other", error=CheckpointError):
        call(mnist.program, "--resume")


def test_the_command_that_resumes_is_the_folder_alone(run, call, monkeypatch, capsys, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tinygan.run.Run, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("a", "--epochs", 1, *OWN)
    line = capsys.readouterr().err.splitlines()[-1].split()
    assert line == ["python", "examples/mnist.py", "--out", str(tmp_path / "a"), "--resume"]
    call(mnist.program, *line[2:])
    assert numbers(tmp_path / "a") == numbers(run("whole", "--epochs", 1, *OWN))
