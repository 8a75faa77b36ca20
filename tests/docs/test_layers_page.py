"""examples/LAYERS.md is true: its code runs, its layers are right, its commands do what it says, and both GANs are the same."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from pages import ROOT
from strict_cupy import host

import tinygan
from tinygan import BatchNorm, GradientError, Layer, Linear, Network, check_layer
from tinygan.protocol import PROMISES

PAGE = (ROOT / "examples" / "LAYERS.md").read_text(encoding="utf-8")
OWN, _, PYTORCH = PAGE.partition("## Coming from PyTorch")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", OWN, re.MULTILINE | re.DOTALL)
(SUITE,) = [block for block in BLOCKS if "parametrize_layers" in block]
MODULE = [block for block in BLOCKS if block is not SUITE]
TORCH_GAN, TINY_GAN, LOOP = re.findall(r"^```python\n(.*?)^```$", PYTORCH, re.MULTILINE | re.DOTALL)
(YAML,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    (python -m .*)$", OWN, re.MULTILINE)


@pytest.fixture(scope="module")
def mylayers():
    """The page's code in its order, as one module."""
    module = types.ModuleType("mylayers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mylayers", module)
        exec("\n".join(MODULE), vars(module))
        yield module


def layers_of(module):
    return {name for name, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__}


def test_the_pages_layers_are_these(mylayers):
    assert layers_of(mylayers) == {"Softplus", "BadTanh", "LayerNorm", "Residual", "Gated"}


def test_the_pages_layers_are_right_on_rows_and_on_images(mylayers):
    m = mylayers
    for make in (
        m.Softplus,
        lambda: m.LayerNorm(4),
        lambda: m.Residual(m.LayerNorm(4), m.Softplus()),
        lambda: m.Residual(m.Gated(4, 4), BatchNorm(4), m.Residual(m.Softplus())),
        lambda: m.Gated(4, 6),
    ):
        assert check_layer(make(), (5, 4)).passed
    for make in m.Softplus, lambda: m.LayerNorm(4):
        assert check_layer(make(), (2, 3, 3, 4)).passed


def test_softplus_is_finite_where_the_naive_form_is_not(mylayers):
    x = np.array([[-1e4, -100, 0, 100, 1e4]], np.float32)
    y, cache = mylayers.Softplus().forward(x)
    assert y.tolist() == [[0, pytest.approx(np.exp(-100), rel=1e-3, abs=1e-44), np.float32(np.log(2)), 100, 1e4]]
    assert mylayers.Softplus().backward(np.ones_like(x), cache).tolist() == [[0, y[0, 1], 0.5, 1, 1]]


def test_layer_norm_and_the_gate_are_their_equations(mylayers):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 4))
    norm, gate = (Network([layer], dtype=np.float64) for layer in (mylayers.LayerNorm(4), mylayers.Gated(4, 6)))
    gamma, beta = norm.layers[0].params.values()
    gamma[...], beta[...] = rng.standard_normal((2, 4))
    expected = gamma * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) + beta
    np.testing.assert_allclose(norm(x), expected, rtol=1e-12)
    gate.theta[...] = rng.standard_normal(gate.theta.size)
    W, b, V, c = gate.parameters().values()
    np.testing.assert_allclose(gate(x), (x @ W + b) / (1 + np.exp(-(x @ V + c))), rtol=1e-12)


def test_the_pages_layers_run_on_each_backend(mylayers, xp):
    m = mylayers
    layers = lambda: [m.Gated(4, 8), m.LayerNorm(8), m.Residual(Linear(8, 8), m.Softplus()), Linear(8, 1)]  # noqa: E731
    x, dy = np.random.default_rng(0).standard_normal((2, 5, 4))
    found = []
    for module in np, xp:
        net = Network(layers(), seed=1, dtype=np.float64, xp=module)
        y, cache = net.forward(module.asarray(x), train=True)
        grad = module.empty_like(net.theta)
        dx = net.backward(module.asarray(dy[:, :1].copy()), cache, grad)
        found.append([host(array) for array in (y, dx, grad)])
    for expected, result in zip(*found, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)


def test_the_wrong_layer_is_rejected_in_the_words_of_the_page(mylayers):
    with pytest.raises(GradientError) as raised:
        check_layer(mylayers.BadTanh(), (5, 3))
    (shown,) = re.findall(r"^```\n(BadTanh.*?)^```$", OWN, re.MULTILINE | re.DOTALL)
    assert str(raised.value).startswith(shown.rstrip())


def test_the_copy_is_the_same_function(mylayers):
    x = np.ones((3, 4), np.float32)
    assert mylayers.copy(x).tolist() == mylayers.small(x).tolist()


def test_the_suite_of_the_page_passes(mylayers):
    namespace = {}
    exec(SUITE, namespace)
    _, tests = namespace["test_layer"].pytestmark[0].args
    assert "`test_layer[Softplus()-derivative_by_x]`" in PAGE
    assert {"Softplus()-derivative_by_x", "Gated(4, 6)-derivative_by_1.W"} <= {test.id for test in tests}
    for test in tests:
        namespace["test_layer"](*test.values)


def test_the_table_of_tests_is_that_of_the_checker():
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", OWN, re.MULTILINE))
    assert table.pop("derivative_by_x")
    assert table == PROMISES


@pytest.mark.slow
def test_the_commands_of_the_page_and_of_the_workflow_run(tmp_path):
    (tmp_path / "mylayers.py").write_text("\n".join(block for block in MODULE if "print(" not in block), encoding="utf-8")
    (tmp_path / "test_mylayers.py").write_text(SUITE, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(tinygan.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    steps = re.findall(r"^      - run: (.*)$", YAML, re.MULTILINE)
    assert len(steps) == 3
    assert steps[1] in COMMANDS
    for command in [*COMMANDS, *steps[1:]]:
        program, *arguments = command.split()
        assert program == "python"
        if "-n" in arguments:
            pytest.importorskip("xdist")
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "2 of 2 passed"
        in subprocess.run(
            [sys.executable, *steps[1].split()[1:]], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8"
        ).stdout
    )


# ---- Coming from PyTorch


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # for matrices this small, waiting for a second thread is most of the work
    return torch


def gan(code):
    namespace = {}
    exec(code, namespace)
    return types.SimpleNamespace(**namespace)


def test_both_gans_have_about_fifteen_lines_of_code():
    for code in TORCH_GAN, TINY_GAN:
        assert len([line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]) <= 20


@pytest.mark.slow
def test_both_gans_compute_the_same_from_the_same_start(torch):
    theirs = gan(TORCH_GAN)
    ours = gan(TINY_GAN.replace("seed=1)", "seed=1, dtype=np.float64)").replace("seed=2)", "seed=2, dtype=np.float64)"))
    for name in "GD":
        modules = getattr(theirs, name).double()
        arrays = getattr(ours, name).parameters().values()
        with torch.no_grad():
            for module, array in zip(modules.parameters(), arrays, strict=True):
                module.copy_(torch.tensor(array.T.copy()))
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, z = 1 + 0.5 * rng.standard_normal((128, 1)), rng.standard_normal((128, 2))
        np.testing.assert_allclose(ours.iteration(x, z), theirs.iteration(torch.tensor(x), torch.tensor(z)), rtol=1e-12)
        for name in "GD":
            for module, array in zip(
                getattr(theirs, name).parameters(), getattr(ours, name).parameters().values(), strict=True
            ):
                np.testing.assert_allclose(array, module.detach().numpy().T, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_both_gans_learn_the_distribution(torch, capsys):
    exec(TINY_GAN + LOOP, {})
    printed = [capsys.readouterr().out]
    torch.manual_seed(0)
    loop = re.sub(r"((?:1 \+ 0\.5 \* )?rng\.standard_normal\(\([^)]*\), np\.float32\))", r"torch.from_numpy(\1)", LOOP)
    exec("import numpy as np\n" + TORCH_GAN + loop, {})
    printed.append(capsys.readouterr().out)
    for text in printed:
        mean, deviation = map(float, re.findall(r"mean ([\d.]+), deviation ([\d.]+)", text.rpartition("G(z)")[2])[0])
        assert abs(mean - 1) < 0.15, text
        assert abs(deviation - 0.5) < 0.15, text


# ---- The table of correspondences


def test_every_name_of_tinygan_in_the_table_exists():
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", PYTORCH, re.MULTILINE)[2:]
    assert len(rows) > 20
    named = set(re.findall(r"\b([A-Z][A-Za-z]+|[a-z]+_[a-z_]+)\(", " ".join(right for _, right in rows)))
    methods = {name for kind in (Layer, Network) for name in dir(kind)}
    assert {name for name in named if not hasattr(tinygan, name)} - methods == set()
