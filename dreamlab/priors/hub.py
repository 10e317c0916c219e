"""Finding a model folder: in the package, on this disk, in the hub's cache, or on the hub.

A source is `package:<path inside dreamlab>`, a folder, or a hub id `owner/name`. All sources are
looked for on this machine first, in their order; the network is asked only when none is complete.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from dreamlab.core.errors import MissingError
from dreamlab.core.locations import PACKAGE
from dreamlab.priors.folder import (
    FAMILIES,
    HALF,
    Family,
    missing_parts,
    missing_weights,
    read_json,
)

PACKAGED = "package:"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(source: str) -> bool:
    """Say whether `source` has the form owner/name."""
    return HUB_ID.fullmatch(source) is not None


def is_offline() -> bool:
    """Say whether the hub must not be asked (`HF_HUB_OFFLINE=1`)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def find_local(source: str) -> Path | None:
    """Return the complete model folder that `source` names on this machine, or None."""
    folder = _local_folder(source)
    return folder if folder is not None and not missing_parts(folder) else None


def _local_folder(source: str) -> Path | None:
    if (folder := _folder_on_disk(source)) is not None:
        return folder
    if is_hub_id(source):
        from huggingface_hub import try_to_load_from_cache

        index = try_to_load_from_cache(source, "model_index.json")
        return Path(index).parent if isinstance(index, str) else None
    return None


def _folder_on_disk(source: str) -> Path | None:
    if source.startswith(PACKAGED):
        return PACKAGE / source.removeprefix(PACKAGED)
    folder = Path(source).expanduser()
    return folder.resolve() if folder.is_dir() else None


def locate(name: str, sources: Sequence[str], *, prefer_half: bool = False) -> Path:
    """Return the folder of the first source that can be had, downloading it if necessary.

    Args:
        name: how the user called the model, for messages.
        sources: in order of preference.
        prefer_half: download half-precision weights where the repository has them.

    Raises:
        MissingError: no source could be had; says what was tried, why each failed, and the fix.
    """
    for source in sources:
        if (folder := find_local(source)) is not None:
            return folder
    problems: list[str] = []
    for source in sources:
        if (folder := _folder_on_disk(source)) is not None:
            problems.append(f"{folder} lacks {', '.join(missing_parts(folder))}")
        elif not is_hub_id(source):
            problems.append(f"there is no folder {source}")
        elif is_offline():
            problems.append(f"{source} is not in the hub's cache, and HF_HUB_OFFLINE is set")
        else:
            try:
                return _download(source, prefer_half)
            except Exception as error:  # the hub client raises kinds of five libraries
                problems.append(f"{source}: {explain(error)}")
    raise MissingError(
        f"the model {name!r} cannot be had: " + "; ".join(problems) + ".", _advice(sources)
    )


def locate_network(source: str, what: str, key: str) -> Path:
    """Return the folder of a single network, downloading it if `source` is a hub id.

    Args:
        source: a folder, or a hub id.
        what: how it is called in messages, such as "autoencoder".
        key: the setting that names it.

    Raises:
        MissingError: it cannot be had, or it is not complete.
    """
    place = _folder_on_disk(source)
    if place is None and is_hub_id(source):
        place = _snapshot(source, "", what, key)
    if place is None:
        raise MissingError(f"there is no {what} {source!r}.", f"correct {key}.")
    lacking = missing_weights(place, what)
    if lacking:
        raise MissingError(f"{place} lacks {', '.join(lacking)}.", f"correct {key}.")
    return place


def locate_inside(source: str, key: str) -> Path:
    """Return a file or folder that lies inside a repository or on disk.

    Args:
        source: a path, or `owner/name/path` of a file with a suffix or of a folder on the hub.
        key: the setting that names it.

    Raises:
        MissingError: it cannot be had.
    """
    place = Path(source).expanduser()
    if place.exists():
        return place.resolve()
    *_, path = parts = source.split("/", maxsplit=2)
    repository = "/".join(parts[:2])
    if len(parts) < 3 or not path or not is_hub_id(repository):
        raise MissingError(f"{key}: there is no {source}.", f"correct {key}.")
    return _snapshot(repository, path, "file or folder", key) / path


def _snapshot(repository: str, inside: str, what: str, key: str) -> Path:
    """Download the networks of a repository, of one folder of it, or one file."""
    from huggingface_hub import snapshot_download

    folder = f"{inside}/" if inside else ""
    kinds = ("json", "txt", "safetensors")
    patterns = [inside] if Path(inside).suffix else [f"{folder}*.{kind}" for kind in kinds]
    try:
        place = Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:  # the hub client raises kinds of five libraries
        raise MissingError(
            f"the {what} {repository}{'/' if inside else ''}{inside} cannot be had: "
            f"{explain(error)}.",
            f"connect to the network once, or leave {key} out.",
        ) from error
    if not (place / inside).exists():
        raise MissingError(f"{repository} has no {inside}.", f"correct {key}.")
    return place


def _download(source: str, prefer_half: bool) -> Path:
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    if (family := family_beside_diffusers(hf_hub_download(source, "model_index.json"))) is not None:
        return _download_parts(source, family)
    skipped = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
    try:
        variant = HALF if prefer_half else None
        folder = DiffusionPipeline.download(
            source, variant=variant, use_safetensors=True, **skipped
        )
    except ValueError:
        if not prefer_half:
            raise
        folder = DiffusionPipeline.download(source, use_safetensors=True, **skipped)
    return _complete(Path(folder))


def family_beside_diffusers(index: str | Path) -> Family | None:
    """Return the family that an index names if its pipeline is none of diffusers' own, else None.

    Args:
        index: path of a model_index.json.
    """
    import diffusers

    name = read_json(Path(index)).get("_class_name")
    if not isinstance(name, str) or hasattr(diffusers, name):
        return None
    return FAMILIES.get(name)


def _download_parts(source: str, family: Family) -> Path:
    """Download the files that an adapter reads, in all precisions; no code is run."""
    from huggingface_hub import snapshot_download

    parts = [*family.parts, "scheduler"]
    files = [f"{part}/*.{kind}" for part in parts for kind in ("json", "txt", "safetensors")]
    return _complete(Path(snapshot_download(source, allow_patterns=["model_index.json", *files])))


def _complete(folder: Path) -> Path:
    lacking = missing_parts(folder)
    if lacking:
        raise MissingError(f"lacks {', '.join(lacking)}", "choose another model.")
    return folder


def explain(error: Exception) -> str:
    """Say in a few words why a download failed."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return "its owner asks you to accept a licence first (then log in with `hf auth login`)"
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return "there is no such repository on the hub (removed, private or misspelt)"
    if isinstance(error, MissingError):
        return error.message
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    if kinds & {"ConnectError", "ConnectionError", "ConnectTimeout", "ProxyError", "ReadTimeout"}:
        return "the hub cannot be reached (no network?)"
    return " ".join(str(error).split())[:160] or type(error).__name__


def _advice(sources: Sequence[str]) -> str:
    if all(source.startswith(PACKAGED) for source in sources):
        return "reinstall dreamlab: this installation lacks the embedded prior's weights."
    return (
        "connect to the network once (HF_HUB_OFFLINE unset), or give the path of a folder in "
        "diffusers' layout as prior.model, or use prior.model=toybox, which needs nothing."
    )
