"""A layout from a language model: asked for as data, read as a file of a user is.

The model is given the conventions, the JSON Schema of layouts and an example, and the prompt. The
first JSON object of its answer that has boxes is read by the loader of files. What the loader
refuses is sent back once, with what was wrong. The prompt of the scene stays the user's.

SemanticSDS (Yang et al. 2024) has a model write Python and runs it; here an answer is never more
than numbers and words.
"""

import json
from dataclasses import replace
from typing import Any

from dreamlab.core.config import MAX_CHARACTERS, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout, check_prompt
from dreamlab.jobs.layouts.chat import Endpoint, Message, ask
from dreamlab.jobs.layouts.files import parse_layout
from dreamlab.jobs.layouts.schema import layout_schema
from dreamlab.jobs.layouts.words import layout_of

EXAMPLE = "a red mushroom next to a blue car"
WHERE = "the answer"
MAX_BRACES = 100
"""Places in an answer where an object of JSON may begin."""
RULES = """\
You arrange the objects of a scene in boxes. Answer with one JSON object that this schema allows, \
and nothing else:
{schema}
The world is a cube from -1 to 1 along each axis. z is up. Somebody looks at the scene from +x, so \
fronts face +x, left is -y and right is +y. center is the middle of a box and size its edges along \
x, y, z, before yaw turns it. Whole boxes must lie in the cube. Together they should fill most of \
it, stand on one ground where nothing holds them up, touch where one thing rests on another and \
overlap nowhere else. Each object has a box of its own, and its prompt describes it alone: its \
colours and materials, and no other object. Leave out yaw, front and views unless the scene needs \
them. An example, for "{example}":
{answer}"""


def plan(prompt: str, endpoint: Endpoint) -> Layout:
    """Ask a language model for the layout of a prompt.

    Raises:
        InputError: the prompt is none, the server does not answer, or the model gave no layout
            twice.
    """
    try:
        check_prompt(prompt, "the prompt")
    except ValueError as error:
        raise InputError(f"{error}.", "change it.") from None
    messages: list[Message] = [
        {"role": "system", "content": rules()},
        {"role": "user", "content": prompt},
    ]
    answer = ask(endpoint, messages)
    try:
        return _read(answer, prompt)
    except InputError as error:
        again = f"That cannot be used: {error} Answer with the whole corrected JSON object alone."
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": again}]
    answer = ask(endpoint, messages)
    try:
        return _read(answer, prompt)
    except InputError as error:
        raise InputError(
            f"{endpoint.model} gave no layout, twice; the second time: {error.message}",
            f"name another model, or begin from the words: dreamlab layout {prompt!r}.",
        ) from None


def rules() -> str:
    """Return what the model is told before the prompt."""
    example = to_plain(layout_of(EXAMPLE))
    for box in example["boxes"]:
        for key in ("yaw", "front", "views"):
            del box[key]
    return RULES.format(
        schema=json.dumps(layout_schema()), example=EXAMPLE, answer=json.dumps(example)
    )


def _read(answer: str, prompt: str) -> Layout:
    # written anew, since YAML is read and knows neither tabs nor surrogates
    text = json.dumps(_object_in(answer), ensure_ascii=False)
    return replace(parse_layout(text, WHERE), prompt=" ".join(prompt.split()))


def _object_in(answer: str) -> dict[str, Any]:
    """Return the first JSON object with boxes in a text, or else the first."""
    decoder, found, start = json.JSONDecoder(), None, -1
    answer = answer[:MAX_CHARACTERS]
    for _ in range(MAX_BRACES):
        start = answer.find("{", start + 1)
        if start < 0:
            break
        try:
            content, end = decoder.raw_decode(answer, start)
        except (ValueError, RecursionError):
            continue
        if "boxes" in content:
            return content
        found = content if found is None else found
        start = end - 1
    if found is None:
        raise InputError("the answer has no JSON object.", "answer with one.")
    return found
