"""The look of the page: colours, type and spacing for light and dark. Nothing is downloaded.

`THEME` sets Gradio's own variables; style.css, beside this file, is written in terms of them, so
that both modes follow from one table. `HEAD` carries what must be in the document's head.
"""

from pathlib import Path

from gradio.themes import Base, Color, sizes

CSS_PATH = Path(__file__).with_name("style.css")
SCRIPT_PATH = Path(__file__).with_name("keys.js")

INDIGO = Color(
    name="indigo",
    c50="#f1f1fe",
    c100="#e4e4fd",
    c200="#cdcdfb",
    c300="#adabf7",
    c400="#8b86f0",
    c500="#6d64e6",
    c600="#5a4bd4",
    c700="#4b3db4",
    c800="#3f3592",
    c900="#363075",
    c950="#201c45",
)
STONE = Color(
    name="stone",
    c50="#faf9f8",
    c100="#f3f2f0",
    c200="#e6e4e1",
    c300="#d4d1cc",
    c400="#a19d98",
    c500="#726e6a",
    c600="#54514e",
    c700="#3b3937",
    c800="#262524",
    c900="#1a1918",
    c950="#121111",
)
SANS = ("Inter", "ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "sans-serif")
MONO = ("JetBrains Mono", "ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

THEME = Base(
    primary_hue=INDIGO,
    secondary_hue=INDIGO,
    neutral_hue=STONE,
    radius_size=sizes.radius_lg,
    font=SANS,
    font_mono=MONO,
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    body_text_color="*neutral_900",
    body_text_color_dark="*neutral_100",
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="*neutral_400",
    background_fill_primary="white",
    background_fill_primary_dark="*neutral_900",
    background_fill_secondary="*neutral_100",
    background_fill_secondary_dark="*neutral_800",
    border_color_primary="*neutral_200",
    border_color_primary_dark="*neutral_700",
    block_background_fill="white",
    block_background_fill_dark="*neutral_900",
    block_border_width="1px",
    block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent",
    block_label_border_width="0px",
    block_label_text_color="*neutral_500",
    block_label_text_color_dark="*neutral_400",
    block_title_text_color="*neutral_700",
    block_title_text_color_dark="*neutral_200",
    block_title_text_weight="600",
    block_shadow="none",
    input_background_fill="white",
    input_background_fill_dark="*neutral_950",
    input_border_color="*neutral_300",
    input_border_color_dark="*neutral_700",
    input_border_color_focus="*primary_500",
    input_border_color_focus_dark="*primary_400",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_dark="*primary_500",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_primary_text_color="white",
    button_secondary_background_fill="white",
    button_secondary_background_fill_dark="*neutral_800",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_hover_dark="*neutral_700",
    button_secondary_border_color="*neutral_300",
    button_secondary_border_color_dark="*neutral_600",
    button_border_width="1px",
    link_text_color="*primary_600",
    link_text_color_dark="*primary_300",
    link_text_color_hover="*primary_700",
    link_text_color_hover_dark="*primary_200",
    color_accent_soft="*primary_50",
    color_accent_soft_dark="*primary_950",
)

NARROW = """
@media (max-width: 640px) {
  body .gradio-container > .main, body .nav-holder > nav { padding: 0 14px !important; }
  body .nav-holder > nav { justify-content: space-between !important; gap: 0 !important; }
  body .nav-holder > nav::before { display: none !important; }
  body .nav-holder a { padding: 6px 5px !important; font-size: 0.85rem !important; }
}
"""
"""The bar at the top on a telephone; Gradio keeps media rules of style.css away from it."""
HEAD = (
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<style>{NARROW}</style>\n"
    f"<script>{SCRIPT_PATH.read_text(encoding='utf-8')}</script>"
)
