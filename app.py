"""The web page, where a hosting platform looks for it; the same as `dreamlab serve`."""

import os
import sys

from dreamlab.cli.main import app

if __name__ == "__main__":
    # who may see a Space on Hugging Face is decided by the platform, which stands before it
    space = ["--listen", "--i-know"] if "SPACE_ID" in os.environ else []
    app(["serve", *space, *sys.argv[1:]], prog_name="app.py")
