"""Make docs/images/live.jpg: a clip in a loop in real time, as from a camera, on the page of `mchmr live`.

    python tools/page_screenshot.py CLIP OUT.jpg [--theme dark] [--size 1366x768] [--wait SECONDS]

Needs a Chromium and the `dev` extra. Without a graphics card the page omits shadows and soft edges; here it is configured to draw them.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from mchmr_stream.cli.live import DEFAULTS
from mchmr_stream.config import load_settings
from mchmr_stream.live.run import LiveRun
from mchmr_stream.web.access import PageAccess
from mchmr_stream.web.live_page import LivePage

SOFTWARE = ["--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking"]
AS_WITH_A_CARD = """
const ask = WebGL2RenderingContext.prototype.getParameter;
WebGL2RenderingContext.prototype.getParameter = function (name) { return name === 0x9246 ? "a card" : ask.call(this, name); };
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--theme", choices=["dark", "light"], default="dark")
    parser.add_argument("--size", default="1366x768")
    parser.add_argument("--wait", type=float, default=20.0, help="seconds before the picture is taken")
    parser.add_argument("--click", action="append", default=[], help="first click on this (a CSS selector)")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    source = f"lavfi:movie={args.clip}:loop=0,setpts=N/FRAME_RATE/TB,scale=1280:-2,setsar=1"
    settings = load_settings(None, ["live.record_to=/tmp/recordings", *args.overrides], defaults=DEFAULTS)
    with LiveRun([source], settings) as run, sync_playwright() as playwright:
        page = LivePage(run, PageAccess("127.0.0.1", 0, None))
        run.add_sink(page)
        running = threading.Thread(target=run.run)
        running.start()
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SOFTWARE)
        tab = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=args.theme)
        tab.add_init_script(AS_WITH_A_CARD)
        tab.goto(page.url)
        time.sleep(args.wait)
        for control in args.click:
            tab.locator(control).press("Space")
        while len(tab.query_selector_all("#people tbody tr")) < 2:
            time.sleep(0.2)
        time.sleep(1.5)
        tab.screenshot(path=args.out, type="jpeg", quality=88)
        chromium.close()
        run.stop()
        running.join()


if __name__ == "__main__":
    main()
