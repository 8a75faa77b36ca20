"""The page of a report in a browser: it shows what the files hold, in both themes, on a phone, and by the keyboard alone."""

import json
import shutil
import threading
import time

import pytest
from helpers import rows
from runs import make_run, metrics, png
from test_report import EVIL, fields

from tinygan.report.page import write_report
from tinygan.report.server import Server

pytestmark = pytest.mark.browser

LIGHT, DARK = "rgb(251, 251, 250)", "rgb(20, 21, 23)"
PANELS = {"V(D, G)": ["value"], "D on held-out": ["D_x", "D_G_z"], "costs": ["discriminator_cost", "generator_cost"]}


@pytest.fixture
def opened(open_page):
    """opened(folder, …): the page of these runs in a window."""

    def opened(*folders, **options):
        path = folders[0].parent / "page.html"
        write_report(folders, path)
        page = open_page(path.as_uri(), **options)
        page.wait_for_selector("#curves svg, #curves p")
        return page

    return opened


def until(page, expression):
    """Wait until this is true on the page. Playwright's own wait_for_function needs eval, which the page's policy forbids."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def labels(page, panel):
    """The texts at the ends of a panel's lines."""
    return page.locator("#curves figure", has_text=panel).locator(".label").all_text_contents()


def point_at(page, panel, epoch, epochs):
    """Move the pointer to where a panel has this epoch: between the ends of its horizontal grid lines."""
    svg = page.locator("#curves figure", has_text=panel).locator("> svg")
    left, right = svg.locator(".grid").first.evaluate("line => { const b = line.getBBox(); return [b.x, b.x + b.width] }")
    svg.hover(position={"x": left + (right - left) * epoch / epochs, "y": 60})


def picture(page):
    """The epoch whose picture is shown, by its text and by its bytes."""
    image = page.locator("#samples .picture:not(.data) img")
    return image.get_attribute("alt").split()[-1], image.get_attribute("src")


def test_the_values_under_the_pointer_are_those_of_metrics_csv(opened, tmp_path):
    folder = make_run(tmp_path / "a", 20)
    page = opened(folder)
    header, *lines = rows(folder)
    for epoch in 1, 7, 12, 20:
        for panel, columns in PANELS.items():
            point_at(page, panel, epoch, 20)
            values = [label.split()[-1] for label in labels(page, panel)]
            assert values == [lines[epoch - 1][header.index(name)] for name in columns]
            assert page.locator("#now").text_content() == str(epoch)
    point_at(page, "validation log-likelihood", 13, 20)
    assert labels(page, "validation log-likelihood") == ["112"]  # of epoch 12: 13 was not measured


def test_the_slider_shows_the_picture_and_the_histogram_of_its_epoch(opened, tmp_path):
    folder = make_run(tmp_path / "a", 20, every=5)
    page = opened(folder)
    content = json.loads(page.locator("#content").text_content())
    sources = {str(each["epoch"]): each["source"] for each in content["runs"][0]["pictures"]}
    assert sources.keys() == {"0", "5", "10", "15", "20"}
    for epoch, shown in (0, "0"), (4, "0"), (5, "5"), (19, "15"), (20, "20"):
        page.locator("#epoch").fill(str(epoch))
        assert picture(page) == (shown, sources[shown])
        assert page.locator("#now").text_content() == str(epoch)
        caption = page.locator("#samples figcaption").text_content()
        assert all(words in caption for words in (f"Epoch {shown} ", f"verdict {shown} ", f"{900 + int(shown)} of 1000"))
        bars = page.locator("#samples svg rect title").all_text_contents()
        assert [int(bar.split(": ")[1].split()[0]) for bar in bars] == [0, int(shown), 5, int(shown), 7, 0]
        assert page.locator("#samples .picture:not(.data) img").evaluate(
            "image => image.decode().then(() => image.naturalWidth)"
        )


def test_everything_can_be_reached_by_the_keyboard(opened, tmp_path):
    page = opened(make_run(tmp_path / "a", 20))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "epoch"
    for key, epoch in ("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 20), ("ArrowLeft", 19):
        page.keyboard.press(key)
        assert page.locator("#now").text_content() == picture(page)[0] == str(epoch)
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('now').textContent > 3 && document.getElementById('now').textContent < 20")
    until(page, "document.getElementById('play').textContent === 'play'")
    assert page.locator("#now").text_content() == "20"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#samples details").evaluate("details => details.open && details.contains(document.activeElement)")


def test_the_data_are_cut_from_the_left_of_the_first_picture(opened, tmp_path):
    page = opened(make_run(tmp_path / "a"))
    page.get_by_text("the data", exact=True).click()
    data, samples = (page.locator(f"#samples .picture{kind}") for kind in (".data", ":not(.data)"))
    assert data.locator("img").evaluate("image => getComputedStyle(image).objectPosition").startswith("0%")
    assert data.evaluate("box => box.style.aspectRatio") == samples.evaluate("box => box.style.aspectRatio") == "1.5 / 1"
    folder = make_run(tmp_path / "b")
    (folder / "samples" / "epoch-0000.png").write_bytes(png())
    page = opened(folder)
    until(page, "document.querySelector('.picture').style.aspectRatio")
    assert not page.locator("#samples details").is_visible()


def test_several_runs_are_compared_at_the_same_epoch(opened, tmp_path):
    folders = [make_run(tmp_path / name, epochs) for name, epochs in (("long", 20), ("short", 5))]
    page = opened(*folders)
    assert page.locator("h1").all_text_contents() == ["A long", "B short"]
    point_at(page, "V(D, G)", 4, 20)
    assert sorted(labels(page, "V(D, G)")) == ["A -1.004", "B -1.004"]
    assert page.locator("#samples figcaption").all_text_contents()[1].startswith("Epoch 4 ")
    page.locator("#epoch").fill("20")
    assert sorted(labels(page, "V(D, G)")) == ["A -1.02", "B -1.005"]
    assert [text.split()[1] for text in page.locator("#samples figcaption").all_text_contents()] == ["20", "5"]
    colours = (
        page.locator("#curves figure")
        .first.locator("path.c0, path.c1")
        .evaluate_all("all => all.map(e => getComputedStyle(e).stroke)")
    )
    assert len(set(colours)) == 2
    tops = sorted(page.locator("#curves figure").nth(1).locator(".label").evaluate_all("all => all.map(e => e.getBBox().y)"))
    assert min(b - a for a, b in zip(tops, tops[1:], strict=False)) > 11, "labels cover each other"
    assert page.locator("#parzen .wide > table tr").count() == 1 + 4
    assert page.locator("#commands pre").count() == 4


def test_what_departs_from_the_recipe_is_marked(opened, tmp_path):
    page = opened(make_run(tmp_path / "a"))
    assert page.locator("#settings td.departs").all_text_contents() == ["0.05recipe: 0.1", "yesrecipe: no"]
    assert "learning_rate, calm" in page.locator("#departures").text_content()
    assert "98.8 ± 1.2" in page.locator("#parzen").text_content()
    assert "of the score" in page.locator("#cautions").text_content()
    assert page.locator("#commands pre").first.text_content() == (
        "python examples/mnist.py --seed=3 --learning-rate=0.05 --calm '--data=my data' --epochs=4"
    )
    assert not page.locator("#missing").is_visible()


def test_a_number_that_is_not_finite_is_a_gap_and_one_far_off_stays_outside(opened, tmp_path):
    folder = make_run(tmp_path / "a", 60)
    text = (
        metrics(60)
        .replace("\n30,-1.03,", "\n30,nan,")
        .replace("\n31,-1.031,", "\n31,inf,")
        .replace("\n50,-1.05,", "\n50,-1e300,")
    )
    (folder / "metrics.csv").write_text(text)
    page = opened(folder)
    line = page.locator("#curves figure").first.locator(".clip path").first.get_attribute("d")
    assert [part.count("L") + 1 for part in line.split("M")[1:]] == [29, 29]
    assert "3 points outside" in page.locator("#curves figure").first.text_content()
    for epoch, value in (30, "nan"), (31, "inf"), (50, "-1e300"):
        point_at(page, "V(D, G)", epoch, 60)
        assert labels(page, "V(D, G)") == [value]


@pytest.mark.parametrize(("scheme", "paper"), [("light", LIGHT), ("dark", DARK)])
@pytest.mark.parametrize("width", [400, 1280])
def test_both_themes_are_readable_and_nothing_is_wider_than_the_window(opened, tmp_path, scheme, paper, width):
    folders = [make_run(tmp_path / name, 20) for name in ("one", "with-a-very-long-name-of-a-run-that-fills-the-line" * 3)]
    for chosen in folders[:1], folders:
        page = opened(*chosen, color_scheme=scheme, viewport={"width": width, "height": 800})
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in "body", ".label.c0", ".label.c1", "small", ".departs":
            colour, kind = page.locator(name).first, "fill" if "label" in name else "color"
            assert contrast(colour.evaluate(f"e => getComputedStyle(e).{kind}"), paper) >= 4.5, name


def contrast(*colours):
    """The contrast ratio of the web's accessibility guidelines: 4.5 is enough for text."""
    found = []
    for colour in colours:
        channels = [int(part) / 255 for part in colour[4:-1].split(", ")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        found.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    low, high = sorted(found)
    return (high + 0.05) / (low + 0.05)


def test_a_hostile_run_runs_nothing(opened, tmp_path):
    folder = make_run(tmp_path / "<img src=x onerror=alert(1)>")
    about = json.loads((folder / "run.json").read_text()) | fields(EVIL)
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "samples" / "epoch-0002.png").write_bytes(b"<script>alert(1)</script>")
    page = opened(folder)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    assert "<img src=x onerror=alert(1)>" in page.locator("h1").text_content()
    assert "</script><script>alert(1)" in page.locator("#settings").text_content()
    assert page.locator("script").count() == 2
    assert page.evaluate("[...document.images].filter(image => !image.src.startsWith('data:image/png')).length") == 0


def test_the_policy_lets_nothing_out(opened, tmp_path):
    page = opened(make_run(tmp_path / "a"))
    outcome = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'asked', (error) => error.name)")
    page.evaluate("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/x.png' }))")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }))")
    page.wait_for_timeout(200)
    assert (outcome, page.evaluate("window.ran")) == ("TypeError", None)
    assert len([error for error in page.errors if "Content Security Policy" in error]) >= 3
    page.errors.clear()


def test_an_old_run_and_an_empty_one_have_a_page(opened, tmp_path):
    for name, gone in ("old", ["report.json", "run.json", "neighbours.png"]), ("empty", ["metrics.csv", "samples"]):
        folder = make_run(tmp_path / name)
        for each in gone:
            path = folder / each
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        page = opened(folder)
        said = page.locator("#missing").text_content()
        assert all(each in said for each in gone if each != "neighbours.png")


def test_a_thousand_epochs_are_drawn_at_once_and_the_cursor_follows_the_pointer(opened, tmp_path):
    page = opened(make_run(tmp_path / "a", 1000, every=10))
    took = "(work) => { const start = performance.now(); work(); return performance.now() - start; }"
    assert page.evaluate(f"({took})(draw)") < 1000  # ms
    assert page.evaluate(f"({took})(() => {{ for (let e = 0; e < 100; e++) move(10 * e); }})") / 100 < 33


# ---- While the run goes on


@pytest.fixture
def served(tmp_path):
    folder = make_run(tmp_path / "a")
    with Server([folder]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_page_that_is_served_follows_the_run(open_page, served):
    pages = [open_page(served.address) for _ in range(2)]
    (folder,) = served.folders
    (folder / "samples" / "epoch-0005.png").write_bytes(png(seed=9))
    (folder / "metrics.csv").write_text(metrics(5))
    for page in pages:
        page.get_by_text("the data", exact=True).click()
        until(page, "document.getElementById('now').textContent === '5'")
        assert picture(page) == ("5", "0/samples/epoch-0005.png")
        assert page.locator("#samples img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 12
        assert labels(page, "V(D, G)") == ["-1.005"]
        assert page.locator("#samples details").get_attribute("open") is not None, "what was open stays open"
    pages[0].locator("#epoch").fill("2")
    (folder / "metrics.csv").write_text(metrics(6))
    until(pages[1], "document.getElementById('now').textContent === '6'")
    until(pages[0], "document.getElementById('epoch').max === '6'")
    assert pages[0].locator("#now").text_content() == "2", "a cursor that was moved stays where it is"
    pages[0].reload()
    assert pages[0].locator("#now").text_content() == "6"


def test_a_page_says_when_its_server_has_stopped(open_page, served):
    page = open_page(served.address)
    until(page, "document.getElementById('live').textContent.includes('live')")
    served.shutdown()
    served.server_close()
    until(page, "document.getElementById('live').textContent.includes('stopped')")
    time.sleep(0.1)
    page.errors.clear()  # that it could not be reached
    assert labels(page, "V(D, G)") == ["-1.004"]
