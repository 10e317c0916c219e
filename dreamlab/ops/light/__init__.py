"""Light: its sRGB encoding, functions of a direction, and reflection at rough surfaces."""
