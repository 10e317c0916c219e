"""Names to models: aliases, folders, hub ids, and what the user reads when there is none."""

import importlib
import shutil
from pathlib import Path

import pytest

from dreamlab.core.errors import InputError, MissingError
from dreamlab.priors import hub
from dreamlab.priors.load import PriorConfig, known_models, load_prior, resolve_model


def test_the_table_has_the_promised_aliases_and_well_formed_sources():
    models = known_models()
    assert {"toybox", "sd15", "sd21", "sd21-v"} <= set(models)
    assert {"sdxl", "sd3", "sd35", "flux", "if", "sdxl-turbo", "lcm"} <= set(models)
    for model in models.values():
        assert model.sources and model.licence and model.about
        for source in model.sources:
            assert source.startswith(hub.PACKAGED) or hub.is_hub_id(source)


def test_the_table_never_relies_on_withdrawn_repositories_alone():
    for model in known_models().values():
        assert not model.sources[0].startswith(("stabilityai/stable-diffusion-2", "runwayml/"))


def test_what_is_known_about_a_model_holds_under_its_hub_id_too():
    turbo = resolve_model("stabilityai/sdxl-turbo")
    assert (turbo.few_steps, turbo.max_guidance) == (4, 1.0)
    assert turbo.sources == ["stabilityai/sdxl-turbo"]
    assert resolve_model("somebody/some-model").few_steps is None


def test_names_resolve_to_aliases_folders_and_hub_ids(sd1_folder: Path):
    assert resolve_model("sd15").image_size == 512
    assert resolve_model(str(sd1_folder)).sources == [str(sd1_folder)]
    assert resolve_model("somebody/some-model").sources == ["somebody/some-model"]


@pytest.mark.parametrize("name", ["sd51", "", "/no/such/folder", "a/b/c", "../weights"])
def test_a_name_that_is_nothing_is_refused_with_the_nearest_alias(name: str):
    with pytest.raises(InputError, match="no model") as caught:
        resolve_model(name)
    assert "sd15" in caught.value.fix


def test_a_missing_model_names_every_id_tried_and_the_fix():
    with pytest.raises(MissingError) as caught:
        load_prior(PriorConfig(model="sd21"), "cpu")
    for source in known_models()["sd21"].sources:
        assert source in caught.value.message
    assert "HF_HUB_OFFLINE" in caught.value.message
    assert "toybox" in caught.value.fix


def test_an_incomplete_folder_is_missing_what_it_lacks(sd1_folder: Path, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(sd1_folder, folder)
    shutil.rmtree(folder / "vae")
    with pytest.raises(MissingError, match=r"vae/config\.json"):
        load_prior(PriorConfig(model=str(folder)), "cpu")


def test_the_network_is_asked_for_each_id_in_order_only_after_the_disk(
    sd1_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def download(source: str, prefer_half: bool) -> Path:
        asked.append(source)
        if source != "third/mirror":
            raise ConnectionError("no route")
        return sd1_folder

    monkeypatch.setattr(hub, "is_offline", lambda: False)
    monkeypatch.setattr(hub, "_download", download)
    sources = ["first/mirror", "second/mirror", "third/mirror", "fourth/mirror"]
    assert hub.locate("model", sources) == sd1_folder
    assert asked == sources[:3]
    asked.clear()
    assert hub.locate("model", ["first/mirror", str(sd1_folder)]) == sd1_folder.resolve()
    assert asked == []
    with pytest.raises(MissingError, match=r"first/mirror: the hub cannot be reached"):
        hub.locate("model", sources[:2])


def test_a_model_in_the_hub_cache_is_found_without_network(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    snapshot = tmp_path / "hub" / "models--somebody--model" / "snapshots" / "abc"
    shutil.copytree(sd1_folder, snapshot)
    refs = tmp_path / "hub" / "models--somebody--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert hub.find_local("somebody/model") == snapshot
    shutil.rmtree(snapshot / "unet")
    assert hub.find_local("somebody/model") is None


def test_hub_errors_are_told_apart():
    from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError

    # the hub client has changed its HTTP library before; errors come from the one it uses
    http = importlib.import_module(HTTPError.__module__.split(".")[0])
    response = http.Response(404, request=http.Request("GET", "http://hub.invalid/a/b"))
    gone = RepositoryNotFoundError("404", response=response)
    assert "no such repository" in hub.explain(gone)
    assert "licence" in hub.explain(GatedRepoError("403", response=response))
    wrapped = OSError("cannot load")
    wrapped.__cause__ = gone
    assert "no such repository" in hub.explain(wrapped)
    assert "cannot be reached" in hub.explain(http.ConnectError("dns"))
    assert hub.explain(ValueError("odd  thing")) == "odd thing"


def test_max_rows_must_be_positive():
    with pytest.raises(ValueError, match="max_rows"):
        PriorConfig(max_rows=0)
