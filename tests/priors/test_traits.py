"""Claims about what is known of a model that is not on this machine; of folders: test_families."""

import pytest

from dreamlab.core.errors import InputError
from dreamlab.priors.folder import FAMILIES
from dreamlab.priors.image_prompt import ImagePrompt
from dreamlab.priors.load import Model, PriorConfig, known_models
from dreamlab.priors.traits import foreseen

ELSEWHERE = [name for name, model in known_models().items() if model.pipeline is not None]


def test_the_family_of_every_model_that_must_be_downloaded_is_known():
    sources = {name: model.sources for name, model in known_models().items()}
    packaged = [name for name, of in sources.items() if of[0].startswith("package:")]
    assert sorted([*ELSEWHERE, *packaged]) == sorted(sources)
    with pytest.raises(ValueError, match="pipeline"):
        Model(["a/b"], pipeline="NoPipeline")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_model_that_is_not_here_is_foreseen_as_its_authors_made_it(name: str, monkeypatch):
    monkeypatch.setattr("dreamlab.priors.traits.find_local", lambda source: None)
    model, seen = known_models()[name], foreseen(PriorConfig(name))
    assert seen.family is FAMILIES[str(model.pipeline)] and seen.image_size == model.image_size
    assert seen.num_views == (4 if name == "mvdream" else 1)
    wide = {"sd3": 16, "sd35": 16, "flux": 16, "flux-schnell": 16, "if": 3}
    assert seen.latent_channels == wide.get(name, 4)
    assert model.image_size and seen.latent_size == model.image_size // (1 if name == "if" else 8)


def test_what_a_family_cannot_do_is_refused_and_what_is_not_known_is_not(monkeypatch):
    monkeypatch.setattr("dreamlab.priors.traits.find_local", lambda source: None)
    picture = ImagePrompt("a.png", "b.safetensors")
    with pytest.raises(InputError, match=r"image prompt cannot steer"):
        foreseen(PriorConfig("sd3", image_prompt=picture))
    foreseen(PriorConfig("sd15", image_prompt=picture))
    with pytest.raises(InputError, match="multiple of 8"):
        foreseen(PriorConfig("sd15", image_size=500))
    unknown = foreseen(PriorConfig("somebody/model"))
    assert unknown.family is None and unknown.num_views is None and unknown.latent_size is None
