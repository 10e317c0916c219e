"""Claims about the published schema: it is that of the code, and it names every key."""

import json
from pathlib import Path

from dreamlab.jobs.batch.files import BatchFile
from dreamlab.jobs.batch.rows import FIELDS, LAYOUT
from dreamlab.jobs.batch.schema import batch_schema

PUBLISHED = Path(__file__).parents[3] / "docs" / "batch.schema.json"


def test_the_published_schema_is_that_of_the_code():
    assert json.loads(PUBLISHED.read_text()) == batch_schema(), (
        "write it anew: dreamlab batch --schema > docs/batch.schema.json"
    )


def test_the_schema_has_every_key_with_what_it_means():
    schema = batch_schema()
    assert set(schema["properties"]) == set(BatchFile.__dataclass_fields__)
    assert set(schema["$defs"]["row"]["properties"]) == {*FIELDS, LAYOUT}
    described = [*schema["properties"].values(), *schema["$defs"]["row"]["properties"].values()]
    assert all(about["description"] for about in described)
    assert schema["$defs"]["row"]["required"] == ["prompt"]
