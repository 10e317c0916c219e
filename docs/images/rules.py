"""Draw docs/images/rule-*.png: what each rule of guidance makes of a picture.

Each strip is one `dreamlab image`; all have the same prompt, seed and number of steps. The commands
stand beside the strips in docs/guidance.md.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROMPT = "a red mushroom"
STAGE = "stages.image.guidance"
RULES: dict[str, list[str]] = {
    "sds": [],
    "csd": [f"{STAGE}.scale=8"],
    "nfsd": [f"{STAGE}.scale=8", "--negative", "a grey cube"],
    "asd": [f"{STAGE}.guidance_scale=8"],
    "ism": [f"{STAGE}.guidance_scale=8"],
    "sdi": [
        f"{STAGE}.guidance_scale=5",
        f"{STAGE}.inversion_scale=-5",
        f"{STAGE}.inversion_steps=5",
        f"{STAGE}.timesteps={{policy: linear, t_min: 0.5, t_max: 0.95}}",
    ],
    "rfds_rev": [f"{STAGE}.guidance_scale=8"],
    "vsd": [f"{STAGE}.guidance_scale=5", f"{STAGE}.learning_rate=0.001"],
}


def main(names: list[str]) -> None:
    """Write one strip for each of the rules that are named, all by default."""
    for name in names or RULES:
        words = ["image", PROMPT, "--guidance", name, *RULES[name]]
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "dreamlab", *words, "--quiet", "--output", folder]
            subprocess.run(command, check=True)
            (strip,) = Path(folder).glob("*/strip.png")
            shutil.copy(strip, Path(__file__).with_name(f"rule-{name}.png"))


if __name__ == "__main__":
    main(sys.argv[1:])
