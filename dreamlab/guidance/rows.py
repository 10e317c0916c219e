"""How many rows a view has in a rule's widest call of the denoiser, known from settings alone.

    R = sum_{k in called} n_k,      n_positive = K,   n_negative = K or 1,   n_empty = 1,
                                    n_away = 2 K with Perp-Neg, else 0

Glossary: K prompts that share a view, one without a layout; `called` the groups of conditionings
that the rule's `Config.widest` names. There are as many negative prompts as prompts if they repeat
the prompt; wrong views are asked for where a direction starts somewhere (`guided.base_of`). The
memory that a model needs is counted with R (`priors.footprint`).
"""

from typing import Any

from dreamlab.guidance.guided import ALL, base_of
from dreamlab.guidance.prompts import PromptConfig

WRONG_VIEWS = 2
"""Front and side (`perp_neg.py`)."""


def rows_per_view(config: Any, prompts: PromptConfig, num_prompts: int = 1) -> int:
    """Return R.

    Args:
        config: the rule's settings; all groups are counted for one that does not say what it calls.
        prompts: how prompts depend on the view.
        num_prompts: K.
    """
    called = getattr(config, "widest", ALL)
    each = {
        "positive": num_prompts,
        "negative": num_prompts if prompts.repeats_prompt else 1,
        "empty": 1,
    }
    pushed = prompts.view == "perp_neg" and base_of(called) is not None
    away = WRONG_VIEWS * num_prompts if pushed else 0
    return sum(each[group] for group in called) + away
