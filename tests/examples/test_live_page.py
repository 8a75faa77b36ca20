"""The page of examples/live.py, in headless Chromium: what it marks and shows is what Python has, and each control works."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import live
import pytest
from scripts import ENVIRONMENT, EXAMPLES
from test_live import serving

pytestmark = pytest.mark.browser

START = "#units=4&warm=1"  # quick


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def window(server, open_page):
    """window(fragment, …): a page with a game, and its session."""

    def window(fragment=START, **options):
        known = set(server.sessions)
        page = open_page(server.address + fragment, **options)
        page.wait_for_selector("#numbers dd")
        page.session = lambda: server.sessions[page.evaluate("page.session")]
        assert page.evaluate("page.session") not in known
        return page

    return window


def until(page, expression, argument=None):
    """Wait until it is true. (Playwright's own way needs eval, which the page's policy forbids.)"""
    for _ in range(1000):
        if page.evaluate(expression, argument):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never true: {expression}")


def settled(page):
    until(page, "!busy && state")
    return page.session()


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)
        settled(page)


def marked(page, kind):
    """(function, line) of each line that the page marks so."""
    lines = page.locator(f"#code ol .{kind}").all()
    return [[each.locator("..").get_attribute("data-name"), int(each.get_attribute("data-line"))] for each in lines]


def shown(value):
    """A number as the page writes it."""
    if value is None:
        return "–"
    if float(value).is_integer():
        return str(int(value))
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:.2e}")
    digits = f"{value:.3e}"  # four significant digits
    return f"{float(digits):.{max(0, 3 - int(digits.partition('e')[2]))}f}"


def numbers(page):
    pairs = page.eval_on_selector_all("#numbers div", "all => all.map(each => [...each.children].map(c => c.textContent))")
    return dict(pairs)


def require_agreement(page):
    session = settled(page)
    state = live.plain(session.state())
    assert numbers(page) == {name: shown(value) for name, value in state["numbers"].items()}
    assert page.inner_text("#status").startswith(f"iteration {state['iteration']}")
    assert marked(page, "ran") == ([list(state["ran"])] if state["ran"] else [])
    *inside, following = [list(pair) for pair in state["here"].items()]
    assert (marked(page, "next"), marked(page, "inside")) == ([following], inside)
    names = page.eval_on_selector_all("#changed code", "all => all.map(each => each.textContent)")
    assert names == [change["name"] for change in state["changed"]]
    for control, value in page.evaluate("[...$('settings').elements].map(each => [each.name, each.value])"):
        assert value == str(page.evaluate("state.settings")[control])


@pytest.mark.parametrize("variant", live.VARIANTS)
def test_the_marked_line_is_the_line_that_ran_and_every_number_is_pythons(variant, window):
    page = window(START + f"&variant={variant}")
    for _ in range(25):
        before = marked(page, "next")
        press(page, "n")
        assert marked(page, "ran") == before
        require_agreement(page)
        name, line = marked(page, "ran")[0]
        text = page.inner_text(f'[data-name="{name}"] [data-line="{line}"] code')
        source = Path(live.inspect.getsourcefile(live.GAN)).read_text(encoding="utf-8").splitlines()[line - 1]
        assert text.strip() == source.strip()


@pytest.mark.parametrize("number", range(1, 7))
def test_each_situation_is_one_click_and_says_why(number, window):
    title, situation = list(live.SITUATIONS.items())[number - 1]
    page = window(START)
    page.locator("#situations button").nth(number - 1).click()
    until(page, "number => $('situations').children[number - 1].ariaPressed === 'true'", number)
    session = settled(page)
    assert page.locator("#situations button").nth(number - 1).inner_text().startswith(title)
    assert session.settings == live.settings_of(situation.settings)
    assert situation.why in page.inner_text("#why")
    assert situation.section in page.inner_text("#why")
    assert live.settings_of_link(page.url) == session.settings
    require_agreement(page)
    press(page, "i", "n")
    require_agreement(page)
    pixels = page.evaluate(
        "new Set(new Uint32Array($('picture').getContext('2d').getImageData(0, 0, 600, 280).data.buffer)).size"
    )
    assert pixels > 20


VALUES = {
    "game": "ring",
    "variant": "printed",
    "generator_cost": "minimax",
    "prior": "gaussian",
    "distance": 2,
    "momentum": 0.25,
}


@pytest.mark.parametrize("name", live.SETTINGS)
def test_each_setting_takes_effect_at_the_next_iteration_and_is_in_the_address(name, window):
    page, value = window(), VALUES.get(name, 2 if name in ("warm", "ahead", "k", "generator_steps") else 9)
    press(page, "n", "n", "n")
    control = page.locator(f"#settings [name={name}]")
    if live.SETTINGS[name].choices:
        control.select_option(value)
    else:
        control.fill(str(value))
        control.press("Enter")
    until(page, "([name, value]) => !busy && state.settings[name] == value", [name, value])
    assert page.session().settings[name] != value
    assert page.is_visible("#waiting")
    assert live.settings_of_link(page.url)[name] == value
    page.click("#iteration")
    settled(page)
    press(page, "n")
    assert page.session().settings[name] == value
    assert not page.is_visible("#waiting")
    require_agreement(page)


@pytest.mark.parametrize("text", ["500", ""])
def test_a_value_out_of_bounds_is_not_sent(text, window):
    page = window()
    page.fill("[name=k]", text)
    page.press("[name=k]", "Tab")
    press(page, "i")
    assert page.session().settings["k"] == 1
    assert not page.is_visible("#problem")


@pytest.mark.parametrize("by", ["click", "key"])
def test_next_line_next_iteration_run_pause_and_reset(by, window):
    page = window()
    keys = {"line": "n", "iteration": "i", "run": "p", "reset": "r"}

    def do(what):
        page.click(f"#{what}") if by == "click" else page.keyboard.press(keys[what])

    do("line")
    until(page, "state.ran")
    assert settled(page).iteration == 0
    do("iteration")
    until(page, "state.iteration === 1")
    do("run")
    until(page, "state.iteration >= 5")
    assert page.inner_text("#run").startswith("pause")
    do("run")
    settled(page)
    paused = page.session().iteration
    page.wait_for_timeout(200)
    assert page.session().iteration == paused
    require_agreement(page)
    first = page.evaluate("page.session")
    do("reset")
    until(page, "first => page.session !== first && state.iteration === 0", first)
    require_agreement(page)


def test_the_speed_decides_what_runs_between_two_pictures(window):
    page = window()
    for _ in range(6):
        page.keyboard.press("-")
    assert page.inner_text("#rate") == "1 line a second"
    page.keyboard.press("p")
    page.wait_for_timeout(2500)
    page.keyboard.press("p")
    settled(page)
    assert page.session().ran[1] in range(147, 154), "a few lines"
    for _ in range(6):
        page.keyboard.press("+")
    assert page.inner_text("#rate") == "30 iterations a picture"
    page.keyboard.press("p")
    until(page, "state.iteration > 60")
    page.keyboard.press("p")
    settled(page)
    require_agreement(page)


def test_two_windows_at_once_and_a_reload(window, server):
    one, other = window(), window(START + "&k=2")
    press(one, "i", "i")
    press(other, "i")
    assert (one.session().iteration, other.session().iteration) == (2, 1)
    require_agreement(one)
    require_agreement(other)
    name = one.evaluate("page.session")
    one.reload()
    one.wait_for_selector("#numbers dd")
    require_agreement(one)
    assert one.session().settings == live.settings_of({"units": 4, "warm": 1})
    for _ in range(100):
        if name not in server.sessions:
            break
        time.sleep(0.02)
    assert name not in server.sessions, "the game of the page before is closed"


def test_an_address_that_is_changed_by_hand_starts_its_game(window):
    page = window()
    page.evaluate("location.hash = 'game=bilinear&eta_d=0.5'")
    until(page, "state.settings.game === 'bilinear'")
    assert settled(page).settings["eta_d"] == 0.5
    assert page.is_disabled("[name=units]")
    assert not page.is_disabled("[name=k]")


def test_settings_that_are_refused_are_named(open_page, server):
    page = open_page(server.address + "#k=1000")
    page.wait_for_selector("#problem:not([hidden])")
    page.wait_for_selector("#numbers dd")
    until(page, "$('problem').textContent.includes('100, not 1000')")
    assert ["400" in error for error in page.errors] == [True]
    page.errors.clear()


def test_a_server_that_has_stopped_is_told(open_page):
    command = [sys.executable, "-u", str(EXAMPLES / "live.py"), "--port", "0", "--no-browser", "units=4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) as process:
        page = open_page(process.stdout.readline().strip())
        page.wait_for_selector("#numbers dd")
        assert page.input_value("[name=units]") == "4"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read().split() == ["interrupted"]
    page.keyboard.press("n")
    page.wait_for_selector("#problem:not([hidden])")
    assert "python examples/live.py" in page.inner_text("#problem")
    page.errors.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems_until_it_is_switched(scheme, window):
    page = window(color_scheme=scheme)

    def paper():
        return page.evaluate("getComputedStyle(document.documentElement).backgroundColor")

    light, dark = "rgb(255, 255, 255)", "rgb(21, 24, 28)"
    assert paper() == (light if scheme == "light" else dark)
    page.click("#theme")
    assert paper() == (dark if scheme == "light" else light)
    page.keyboard.press("t")
    assert paper() == (light if scheme == "light" else dark)


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_nothing_hangs_over_the_edge(width, window):
    page = window(viewport={"width": width, "height": 800})
    press(page, "n", "n", "n", "n", "i")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "[...document.querySelectorAll('button, input, select')].every(each => each.getBoundingClientRect().width > 0)"
    )


def megabytes(process):
    """Resident memory of a process."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def seconds(process):
    """Time that a process has computed."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.soak
def test_memory_is_flat_while_it_runs_for_ten_minutes(chromium, capsys):
    """SOAK=0.1 does a tenth. The listeners of open_page would keep each request, so this page has none."""
    half = 300_000 * float(os.environ.get("SOAK", "1"))
    settings = "game=ring&units=64&prior=gaussian&eta_g=0.0125&eta_d=0.1&momentum=0.5"
    command = [sys.executable, "-u", str(EXAMPLES / "live.py"), "--port", "0", "--no-browser", settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True) as process:
        page = chromium.new_page()
        page.goto(process.stdout.readline().strip())
        page.wait_for_selector("#numbers dd")
        protocol = page.context.new_cdp_session(page)
        protocol.send("Performance.enable")

        def memory():
            protocol.send("HeapProfiler.collectGarbage")
            metrics = {each["name"]: each["value"] for each in protocol.send("Performance.getMetrics")["metrics"]}
            return megabytes(process), metrics["JSHeapUsedSize"] / 1e6

        page.keyboard.press("p")
        page.wait_for_timeout(half)  # to fill what is bounded
        before, computed, started = memory(), seconds(process), time.monotonic()
        page.wait_for_timeout(half)
        after, share = memory(), (seconds(process) - computed) / (time.monotonic() - started)
        status = page.inner_text("#status")
        page.close()
        process.terminate()
    with capsys.disabled():
        print(f"\n{status}; {share:.0%} of a core; MB of Python, of the page: {before} → {after}")
    assert after[0] < before[0] + 5
    assert after[1] < before[1] + 2
    assert share < 1
