# SPDX-License-Identifier: Apache-2.0
"""How fast the page is in a real browser, of a step of about 20,000 operators: first paint, and the frames
per second while the timeline zooms and pans. Usage: page_bench.py PRESERVE_REPORT REPORT_INPUTS"""
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reports" / "browser"))
from chromium import Chromium  # noqa: E402

LAYERS, REPETITIONS, SECONDS = 2200, 5, 2
# A ctrl+wheel or a shift+wheel event a frame, in turn inwards and outwards, to and fro.
DRIVE = """new Promise(done => {
  const canvas = document.querySelector('canvas.timeline'), start = performance.now();
  let frames = -1, seen = '';
  const frame = () => {
    if (canvas.dataset.view !== seen) ++frames;
    seen = canvas.dataset.view;
    const elapsed = performance.now() - start;
    if (elapsed > 1000 * %d) return done(1000 * frames / elapsed);
    const sign = Math.floor(frames / 20) %% 2 ? 1 : -1;
    canvas.dispatchEvent(new WheelEvent('wheel', {deltaY: sign * 20, %s: true, cancelable: true}));
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})"""


def show(what: str, values: list[float], unit: str, target: str):
    print(f"report: {what}: {statistics.median(values):.1f} {unit} (least {min(values):.1f}, most {max(values):.1f}, "
          f"{len(values)} times; target: {target})")


def main():
    report, inputs = (str(Path(tool).resolve()) for tool in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        paths = subprocess.run([inputs, folder, str(LAYERS)], check=True, capture_output=True, text=True).stdout.split()
        page = Path(folder) / "report.html"
        subprocess.run([report, "-q", *paths[:3], "-o", str(page)], check=True, capture_output=True)
        browser = Chromium()
        try:
            browser.resize(1600, 1000)
            paint, zoom, pan = [], [], []
            for _ in range(REPETITIONS):
                browser.open(page)
                browser.settle()
                paint.append(browser.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                browser.box("canvas.timeline")
                zoom.append(browser.evaluate(DRIVE % (SECONDS, "ctrlKey")))
                browser.evaluate("[...document.querySelectorAll('button')].find(b => b.textContent === '+').click()")
                pan.append(browser.evaluate(DRIVE % (SECONDS, "shiftKey")))
        finally:
            browser.close()
    show("first paint", paint, "ms", "at most 1000 ms")
    show("zoom", zoom, "frames/s", "at least 30")
    show("pan", pan, "frames/s", "at least 30")


if __name__ == "__main__":
    main()
