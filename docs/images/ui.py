"""Take docs/images/ui-*.png of a server: python docs/images/ui.py http://127.0.0.1:7860 [A [B]]

Its folder should hold some finished runs; A is shown, and compared with B (without names: the
newest ones). If one is running, ui-live.png is taken of it, else that picture stays as it is. Needs
playwright and a Chromium (DREAMLAB_BROWSER).
"""

import json
import os
import shutil
import sys
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

FOLDER = Path(__file__).parent
BROWSER = os.environ.get("DREAMLAB_BROWSER") or shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
VIEW: ViewportSize = {"width": 1440, "height": 900}
WIDTH = 1200
"""Of the pictures, pixels."""
SETTLE_MS = 4_000
"""Until all has come to rest."""
DRAW_MS = 25_000
"""Until a model is drawn, without a graphics card."""
PROMPT = "a purple dragon with green wheels"


def keep(page: Page, name: str) -> None:
    """Write what the window shows."""
    page.wait_for_timeout(SETTLE_MS)
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    small.save(FOLDER / f"ui-{name}.png", optimize=True)


def take(url: str, page: Page, first: str, second: str) -> None:
    """Take the pictures of finished runs, and of forms."""
    page.goto(url)
    page.locator("#prompt textarea").fill(PROMPT)
    page.locator("[data-near]").first.wait_for()
    page.locator("#quality .card-choice").first.wait_for()
    keep(page, "generate")
    page.locator("#prompt textarea").fill("a red mushroom")
    page.get_by_role("tab", name="Method").click()
    page.locator('[name="-prior"]').first.wait_for(state="attached")
    for reasons in page.locator("details.why-not").all():
        reasons.evaluate("element => { element.open = true }")
    page.locator("#method").scroll_into_view_if_needed()
    page.locator(".details").evaluate("element => element.scrollIntoView()")
    keep(page, "method")
    page.goto(f"{url}run?name={first}")
    page.locator("#model canvas").wait_for()
    page.wait_for_timeout(DRAW_MS)
    keep(page, "run")
    page.goto(f"{url}runs")
    page.locator(".card img").first.wait_for()
    keep(page, "runs")
    page.goto(f"{url}compare?a={first}&b={second}")
    page.locator(".wipe img").first.wait_for()
    keep(page, "compare")
    page.goto(f"{url}export?name={first}")
    page.locator(".export-cover").wait_for()
    page.locator("#export-line").evaluate("element => element.remove()")  # has a path of here
    keep(page, "export")


def take_live(url: str, page: Page, name: str) -> None:
    """Take the picture of a run under way, dark."""
    page.emulate_media(color_scheme="dark")
    page.goto(f"{url}run?name={name}")
    page.locator("#pictures img").first.wait_for()
    keep(page, "live")


def names(url: str, state: str) -> list[str]:
    """List the newest runs in a state."""
    with urlopen(f"{url}api/v1/jobs?state={state}&limit=2") as answer:
        return [job["name"] for job in json.load(answer)["jobs"]]


def main() -> None:
    """Ask the server for its runs, and take the pictures."""
    url = sys.argv[1].rstrip("/") + "/"
    first, second, *_ = [*sys.argv[2:], *names(url, "done")]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        page = browser.new_page(viewport=VIEW)
        page.set_default_timeout(120_000)
        for running in names(url, "running")[:1]:
            take_live(url, page, running)
            page.emulate_media(color_scheme="light")
        take(url, page, first, second)
        browser.close()


if __name__ == "__main__":
    main()
