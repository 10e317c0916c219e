"""Claims about the contact sheet in a browser, opened as a file."""

import html
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dreamlab.jobs.batch.results import as_page

BROWSER = os.environ.get("DREAMLAB_BROWSER") or shutil.which("chromium")
ACT = """
const said = [], say = () => said.push(document.querySelectorAll("article").length);
const set = (id, value) => { byId(id).value = value; byId(id).oninput(); say(); };
say(); set("state", "failed"); set("state", ""); set("text", "CONE red"); set("text", "no such");
said.push(byId("none").hidden); set("text", ""); byId("more").onclick(); say();
set("order", "-seconds"); said.push(document.querySelector("h2").lastChild.textContent);
said.push(document.querySelectorAll("article script").length);
const told = Object.assign(document.createElement("output"), {textContent: said.join(" ")});
document.body.append(told);
"""


def row(number: int, prompt: str, state: str, **more) -> dict:
    fixed = {"negative_prompt": "", "seed": number % 3, "recipe": "toybox", "quality": "draft"}
    return {"row": number, "prompt": prompt, "state": state, "where": "line 1", **fixed, **more}


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium here, and DREAMLAB_BROWSER is not set")
def test_filters_search_and_order_choose_the_cards_that_are_shown(tmp_path: Path):
    rows = [row(i, f"ball {i}", "done", seconds=float(i)) for i in range(100)]
    rows.append(row(100, "a red cone", "failed", reason="<script>alert(1)</script>"))
    rows.append(row(101, "slow", "done", seconds=1e4, turntable="x y/turn.mp4", glb="x y/m.glb"))
    page = as_page(rows, "balls").replace("</body>", f"<script>{ACT}</script></body>")
    (tmp_path / "index.html").write_text(page)
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"]
    command += ["--dump-dom", (tmp_path / "index.html").as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = html.unescape(ended.stdout.split("<output>")[1].split("</output>")[0])
    assert said == "60 1 60 1 0 false 60 102 60 slow 0"
    assert 'href="x%20y/m.glb"' in ended.stdout
