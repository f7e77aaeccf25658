# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, as a reader uses it. Usage: page_test.py PRESERVE_REPORT REPORT_INPUTS [SUITE]
  PRESERVE_AXE=FILE          the axe.min.js of suite Accessibility
  PRESERVE_SCREENSHOTS=DIR   keeps a picture of each state"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from chromium import Chromium, Unavailable

VIEW = "document.querySelector('canvas.timeline').dataset.view.split(' ').map(Number)"


def make_report(folder: Path, layers: int) -> Path:
    report, inputs = TOOLS
    folder.mkdir()
    paths = subprocess.run([inputs, str(folder), str(layers)], check=True, capture_output=True, text=True).stdout.split()
    subprocess.run([report, "-q", *paths, "-o", "report.html", "-o", "report.json"], check=True, capture_output=True,
                   cwd=folder)
    return folder / "report.html"


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.page = make_report(Path(cls.folder.name) / "small", 2)
        cls.wide = make_report(Path(cls.folder.name) / "wide", 300)
        cls.browser = BROWSER

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        self.browser.call("Emulation.setEmulatedMedia", media="", features=[])
        self.browser.call("Emulation.setScriptExecutionDisabled", value=False)
        self.browser.resize(1200)
        self.browser.open(self.page)
        self.browser.settle()

    def keep(self, name: str):
        if "PRESERVE_SCREENSHOTS" in os.environ:
            self.browser.screenshot(Path(os.environ["PRESERVE_SCREENSHOTS"]) / f"{name}.png")

    def view(self):
        self.browser.settle()
        return self.browser.evaluate(VIEW)

    def in_canvas(self, x: float, y: float) -> tuple[float, float]:
        box = self.browser.box("canvas.timeline")
        return box["x"] + x, box["y"] + y

    def wheel(self, x: float, y: float, delta: float):
        at = self.in_canvas(x, y)
        self.browser.mouse("mouseWheel", *at, deltaX=0, deltaY=delta, modifiers=2)

    def test_is_silent_and_asks_the_network_for_nothing(self):
        for page in (self.page, self.wide):
            self.browser.open(page)
            self.browser.settle()
            said = [event for event in self.browser.events
                    if event["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")]
            self.assertEqual(said, [])
            asked = [event["params"]["request"]["url"] for event in self.browser.events
                     if event["method"] == "Network.requestWillBeSent"]
            self.assertEqual([url for url in asked if url != page.as_uri() and not url.startswith("data:")], [])

    def test_zooms_about_the_pointer_and_back(self):
        whole = self.view()
        self.wheel(600, 100, -300)
        near = self.view()
        self.assertLess(near[1] - near[0], whole[1] - whole[0])
        self.assertGreater(near[0], whole[0])
        self.keep("zoomed")
        self.browser.click("button[title='Show the whole step']")
        self.assertEqual(self.view(), whole)

    def test_moves_by_dragging_and_by_keys(self):
        self.wheel(600, 100, -400)
        before = self.view()
        x, y = self.in_canvas(600, 100)
        self.browser.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.browser.mouse("mouseMoved", x - 120, y, button="left")
        self.browser.mouse("mouseReleased", x - 120, y, button="left", clickCount=1)
        dragged = self.view()
        self.assertGreater(dragged[0], before[0])
        self.assertAlmostEqual(dragged[1] - dragged[0], before[1] - before[0], delta=1)
        self.browser.evaluate("document.querySelector('canvas.timeline').focus()")
        self.browser.key("ArrowLeft")
        self.assertLess(self.view()[0], dragged[0])
        self.browser.key("+")
        self.assertLess(self.view()[1] - self.view()[0], dragged[1] - dragged[0])
        self.browser.key("0")
        self.assertEqual(self.view()[0], 0)

    def test_mini_map_moves_the_view(self):
        for _ in range(4):
            self.wheel(300, 100, -100)
        before = self.view()
        x, y = self.in_canvas(1000, 10)
        self.browser.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.browser.mouse("mouseReleased", x, y, button="left", clickCount=1)
        self.assertGreater(self.view()[0], before[1])

    def test_says_what_is_under_the_pointer(self):
        rows = self.browser.evaluate("document.querySelector('canvas.timeline').dataset.rows")
        y = next(float(row.split(":")[1]) for row in rows.split(";") if row.startswith("operators"))
        for x in range(200, 1100, 20):
            self.browser.mouse("mouseMoved", *self.in_canvas(x, y + 10))
            if self.browser.evaluate("!document.querySelector('.tip').hidden"):
                break
        text = self.browser.evaluate("document.querySelector('.tip').innerText")
        self.assertIn("compute", text)
        self.assertIn("baseline", text)
        self.keep("hover")

    def test_finds_an_operator(self):
        self.browser.open(self.wide)
        self.browser.click("input[type=search]")
        self.browser.call("Input.insertText", text="layers.250.mlp")
        self.browser.settle()
        count = self.browser.evaluate("document.querySelector('.count').textContent")
        self.assertRegex(count, r"^1 of \d+$")
        self.assertIn("layers.250.mlp", self.browser.evaluate("document.querySelector('.details').innerText"))
        whole = self.browser.evaluate("JSON.parse(document.getElementById('report').textContent).step.wall_ns")
        view = self.view()
        self.assertLess(view[1] - view[0], whole / 10)
        self.browser.key("Enter")
        self.assertTrue(self.browser.evaluate("document.querySelector('.count').textContent").startswith("2 of "))
        self.keep("found")

    def test_steps_through_operators_by_keys(self):
        self.browser.evaluate("document.querySelector('canvas.timeline').focus()")
        self.browser.key(".")
        self.assertTrue(self.browser.evaluate("document.querySelector('.details').innerText").startswith("0. "))
        self.browser.key("Escape")
        self.assertEqual(self.browser.evaluate("document.querySelector('.details').innerText"), "")

    def test_sorts_a_table(self):
        column = ("[...[...document.querySelectorAll('table')].find(t => t.caption.textContent.startsWith('Operators by')"
                  ").tBodies[0].rows].map(r => r.cells[%d].innerText)")
        button = ("[...document.querySelectorAll('table')].find(t => t.caption.textContent.startsWith('Operators by'))"
                  ".tHead.rows[0].cells[0].querySelector('button').click()")
        before = self.browser.evaluate(column % 0)
        self.browser.evaluate(button)
        self.assertEqual(self.browser.evaluate(column % 0), sorted(before))
        self.browser.evaluate(button)
        self.assertEqual(self.browser.evaluate(column % 0), sorted(before, reverse=True))
        self.browser.evaluate(button)
        self.assertEqual(self.browser.evaluate(column % 0), before)

    def test_link_of_a_bar_leads_to_its_window(self):
        self.browser.evaluate("document.querySelector('a[data-ordinal]').click()")
        self.browser.settle()
        self.assertTrue(self.browser.evaluate("document.querySelector('tr:target') !== null"))
        self.assertIn("window:", self.browser.evaluate("document.querySelector('.details').innerText"))

    def test_follows_the_dark_theme(self):
        background = "getComputedStyle(document.body).backgroundColor"
        pixel = ("[...document.querySelector('canvas.timeline').getContext('2d').getImageData(2, 70, 1, 1).data].join()")
        light, drawn = self.browser.evaluate(background), self.browser.evaluate(pixel)
        self.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        self.browser.settle()
        self.assertNotEqual(self.browser.evaluate(background), light)
        self.assertNotEqual(self.browser.evaluate(pixel), drawn)
        self.keep("dark")

    def test_colours_the_verdict(self):
        colour = "getComputedStyle(document.querySelector('.card.%s .word')).color"
        self.assertNotEqual(self.browser.evaluate(colour % "fast"), self.browser.evaluate(colour % "plain"))

    def test_prints_the_still_pictures_and_what_is_folded(self):
        self.browser.call("Emulation.setEmulatedMedia", media="print")
        shown = "getComputedStyle(document.getElementById('%s')).display"
        self.assertEqual(self.browser.evaluate(shown % "timeline-live"), "none")
        self.assertEqual(self.browser.evaluate(shown % "timeline-still"), "block")
        self.browser.evaluate("dispatchEvent(new Event('beforeprint'))")
        self.assertEqual(self.browser.evaluate("document.querySelectorAll('details:not([open])').length"), 0)
        self.browser.evaluate("dispatchEvent(new Event('afterprint'))")
        self.assertGreater(self.browser.evaluate("document.querySelectorAll('details:not([open])').length"), 0)
        self.assertGreater(len(self.browser.call("Page.printToPDF")["data"]), 10000)

    def test_is_complete_without_scripts(self):
        self.browser.call("Emulation.setScriptExecutionDisabled", value=True)
        self.browser.open(self.page)
        root = self.browser.call("DOM.getDocument")["root"]["nodeId"]
        for selector in (".verdict", "#timeline-still svg", "#why-0 ~ .scroll svg", "table"):
            node = self.browser.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
            self.assertNotEqual(node, 0, selector)
            self.assertGreater(self.browser.call("DOM.getBoxModel", nodeId=node)["model"]["height"], 0, selector)
        self.assertEqual(self.browser.call("DOM.querySelector", nodeId=root, selector="canvas")["nodeId"], 0)
        self.keep("without-scripts")

    def test_fits_every_width(self):
        for width in (400, 800, 1200, 2000):
            self.browser.resize(width)
            self.browser.settle()
            self.assertLessEqual(self.browser.evaluate("document.documentElement.scrollWidth"), width, width)
            self.keep(f"width-{width}")

    def test_saves_the_timeline_for_perfetto(self):
        folder = Path(self.folder.name) / "saved"
        folder.mkdir()
        self.browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.browser.click("a[download='timeline.json']")
        for _ in range(600):
            self.browser.evaluate("new Promise(done => setTimeout(done, 50))")
            if list(folder.glob("*.json")):
                break
        events = json.loads((folder / "timeline.json").read_text())["traceEvents"]
        self.assertEqual({event["ph"] for event in events}, {"M", "X", "s", "f", "C"})


class Accessibility(unittest.TestCase):
    def test_axe_finds_nothing(self):
        axe = Path(os.environ["PRESERVE_AXE"]).read_text()
        with tempfile.TemporaryDirectory() as folder:
            report = make_report(Path(folder) / "report", 2)
            grid = report.with_name("grid.html")
            subprocess.run([TOOLS[0], "-q", "grid.db", "-o", grid.name], check=True, cwd=report.parent)
            for page, scheme in ((report, "light"), (report, "dark"), (grid, "dark")):
                BROWSER.call("Emulation.setEmulatedMedia", media="",
                             features=[{"name": "prefers-color-scheme", "value": scheme}])
                BROWSER.open(page)
                BROWSER.settle()
                BROWSER.evaluate(axe + "; 0")
                found = BROWSER.evaluate("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3)"
                                         ".map(n => n.html.slice(0, 200) + ' ' + n.failureSummary).join(' | ')))")
                self.assertEqual(found, [], f"{page.name}, {scheme}")


if __name__ == "__main__":
    TOOLS = sys.argv[1:3]
    if "Accessibility" in sys.argv[3:] and not Path(os.environ.get("PRESERVE_AXE", "")).is_file():
        print("skipped: PRESERVE_AXE does not name an axe.min.js")
        sys.exit(77)
    try:
        BROWSER = Chromium()
    except (Unavailable, OSError) as error:
        print(f"skipped: {error}")
        sys.exit(77)
    try:
        program = unittest.main(argv=[sys.argv[0], *sys.argv[3:]], exit=False)
    finally:
        BROWSER.close()
    sys.exit(0 if program.result.wasSuccessful() else 1)
