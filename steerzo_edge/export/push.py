"""Uploads an adapter to the Hugging Face hub, by its own client, with a model card.

Only the weights, their configuration and the card are uploaded. The token is the client's: HF_TOKEN, or that of
`hf auth login`. A repository is private unless its owner asks for a public one.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from steerzo_edge.errors import ConflictError, InputError
from steerzo_edge.model.adapter_file import CONFIG, WEIGHTS, read_config
from steerzo_edge.model.sources.bundled import BUNDLED
from steerzo_edge.records import EvalRecord
from steerzo_edge.zo.journal import Journal

CARD: Final = "README.md"
_LOG_IN: Final = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."


@dataclass(frozen=True, slots=True)
class Pushed:
    """An uploaded adapter.

    Args:
        url: Of the repository.
        private: Whether only its owner sees it.
    """

    url: str
    private: bool


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the journal of an adapter's run says.

    Args:
        method: The kind of its method.
        before: Evaluation of the base.
        after: Evaluation of the version that was kept.
    """

    method: str
    before: EvalRecord | None
    after: EvalRecord | None


def push(
    adapter: Path, repository: str, *, public: bool = False, base: str | None = None, endpoint: str | None = None
) -> Pushed:
    """Uploads an adapter; a repository that is there gets a new commit.

    Args:
        adapter: A PEFT directory. The journal beside it, if there is one, gives the card its numbers.
        repository: "name" or "owner/name".
        public: Whether everyone may see the repository.
        base: The base's id on the hub, instead of the name in the adapter's configuration.
        endpoint: Address of the hub; by default HF_ENDPOINT.

    Raises:
        InputError: If the name is not one, or the adapter names its base by a path of this machine.
        AdapterFileError: If the directory holds no adapter.
        ConflictError: If the hub refuses or cannot be reached, or the repository is public without being asked for.
        JournalError: If the journal cannot be read.
        OSError: If the disk is full or fails.
    """
    settings = read_config(adapter)
    if base is not None:
        settings = {**settings, "base_model_name_or_path": base, "revision": None}
    named = _base_name(settings, is_given=base is not None)
    _check_name(repository)
    api = HfApi(endpoint=endpoint, library_name="steerzo-edge")
    with TemporaryDirectory() as temporary:
        staged = Path(temporary)
        shutil.copyfile(adapter / WEIGHTS, staged / WEIGHTS)
        (staged / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")
        own = adapter / CARD
        card = own.read_text() if own.is_file() else str(model_card(repository, named, settings, facts_of(adapter)))
        (staged / CARD).write_text(card)
        try:
            made = api.create_repo(repository, private=not public, exist_ok=True)
            private = bool(api.repo_info(made.repo_id).private)
            if not private and not public:
                raise ConflictError(f"{made.repo_id} is public", hint="Add --public, or name another repository.")
            api.upload_folder(repo_id=made.repo_id, folder_path=staged, commit_message="Upload an adapter")
        except (LocalTokenNotFoundError, OfflineModeIsEnabled) as error:
            raise ConflictError(f"the hub was not asked: {error}", hint=_LOG_IN) from None
        except (HfHubHTTPError, httpx.HTTPError) as error:
            raise ConflictError(f"the hub did not take the adapter: {error}", hint=_LOG_IN) from None
    return Pushed(str(made), private)


def facts_of(adapter: Path) -> RunFacts | None:
    """What the journal beside an adapter says; None if there is none.

    Raises:
        JournalError: If it cannot be read.
    """
    path = adapter.resolve().parent / "journal"
    if not path.is_file():
        return None
    header, entries = Journal.read(path)
    evaluations = [entry.record for entry in entries if isinstance(entry.record, EvalRecord)]
    kept = evaluations
    if header.profile["evaluate"]["keep"] == "best":
        kept = [record for record in evaluations if record.best]
    before = next((record for record in evaluations if record.step == 0), None)
    return RunFacts(header.profile["method"]["kind"], before, kept[-1] if kept else None)


def model_card(repository: str, base: str | None, settings: dict[str, Any], facts: RunFacts | None) -> ModelCard:
    """The card of an adapter.

    Args:
        repository: "name" or "owner/name".
        base: The base's id on the hub; None if it has none.
        settings: The adapter's configuration.
        facts: What is known of its run.
    """
    data = ModelCardData(base_model=base, library_name="peft", tags=["lora", "steerzo-edge"])
    named = f"[{base}](https://huggingface.co/{base})" if base else "the base that ships with steerzo-edge"
    lines = [
        f"# {repository.rpartition('/')[2]}",
        "",
        f"A LoRA adapter of rank {settings.get('r')} for {named}, fine-tuned with steerzo-edge.",
    ]
    if facts is not None:
        lines += ["", f"Method: `{facts.method}`.", *_table(facts)]
    lines += [
        "",
        "The licence of the training data is not known to the program that wrote this card, and the base's licence "
        "applies to the adapter too: check both before you use or share it.",
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n")


def _table(facts: RunFacts) -> list[str]:
    if facts.after is None:
        return []
    rows = [("loss, nats per target token", "loss"), ("accuracy", "accuracy")]
    rows += [(name.replace("_", " "), name) for name in facts.after.metrics if name != "accuracy"]
    examples = facts.after.examples
    found = [
        "",
        f"On {examples} held-out rows:",
        "",
        "| metric | base | with the adapter |",
        "| --- | ---: | ---: |",
    ]
    for title, name in rows:
        values = [_metric(record, name) for record in (facts.before, facts.after)]
        if values[1]:
            found.append(f"| {title} | {values[0]} | {values[1]} |")
    return found


def _metric(record: EvalRecord | None, name: str) -> str:
    if record is None:
        return ""
    value = record.metrics.get(name, getattr(record, name, None))
    return "" if value is None else f"{value:.4f}"


def _base_name(settings: dict[str, Any], *, is_given: bool) -> str | None:
    """The base's id on the hub; None for the bundled one.

    Args:
        settings: The adapter's configuration.
        is_given: Whether its owner gave this name just now; else a path of this machine may look the same.

    Raises:
        InputError: If it is a path of this machine, which would be of no use to others.
    """
    named = settings.get("base_model_name_or_path")
    if named == BUNDLED:
        return None
    try:
        validate_repo_id(str(named))
        is_id = isinstance(named, str) and (is_given or not Path(named).exists())
    except HFValidationError:
        is_id = False
    if not is_id:
        raise InputError(
            "the adapter does not name its base by an id on the hub", hint="Name it with --base owner/name."
        )
    return str(named)


def _check_name(repository: str) -> None:
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"{repository!r} is not a name of a repository: {error}") from None
