"""What a comparison chooses between: an engine, and how this one is started or reached."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import msgspec

from harness.errors import HarnessError, unknown
from harness.visible import visible
from harness.workload.loads import check_positive
from harness.workload.profile import Profile

Launch = Literal["auto", "compose", "process"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?<!\.)")  # it names a folder
LONGEST_NAME = 100  # file systems allow 255 bytes, and more is added to it
_STARTING = ("image", "version", "python", "program", "args", "env", "launch", "trust_remote_code")
_ATTACHING = ("key_env", "ca_file", "served_model", "fields", "drop", "length_field")
# More than one of these: the tokens of two answers in one stream would halve TPOT.
_SEVERAL = ("n", "best_of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One `[[candidate]]` table. Empty means: the default of the engine file or of the comparison.

    `image`, `version`, `python` and `program` choose what is started; `args` and `env` are added to its launch line;
    `url` names a server that already runs, and nothing is started."""

    engine: str
    name: str = ""  # what tables and folders call it; default: the engine's name
    image: str = ""  # container image, with tag or digest
    version: str = ""  # of a native installation; recorded and reported if it is not the tested one
    python: str = ""  # an interpreter whose environment has the engine: nothing is installed
    program: str = ""  # the engine's own program: nothing is installed
    args: tuple[str, ...] = ()  # appended to its launch line as they are
    env: Mapping[str, str] = field(default_factory=dict)
    launch: Launch | Literal[""] = ""
    model: str = ""  # other weights of the comparison's model: a folder, a hub id or a GGUF file
    trust_remote_code: bool = False  # whether the engine and its converter may run code of the model's folder
    profile: Mapping[str, Any] = field(default_factory=dict)  # what differs from the comparison's profile
    url: str = ""  # of a server that already runs
    key_env: str = ""  # the environment variable that holds its API key
    ca_file: str = ""  # CA certificates to trust, besides the system's
    served_model: str = ""  # the server's name for the model; default: the only one that it lists
    # How prompts are sent: as ids, as text, or as one user message to its chat route. Default: as the engine, or the
    # route of the url, takes them.
    prompt: Literal["", "ids", "text", "chat"] = ""
    fields: Mapping[str, Any] = field(default_factory=dict)  # more fields of each request's body
    drop: tuple[str, ...] = ()  # fields left out of each request's body; a dot: of a nested object
    length_field: str = ""  # the field that takes the number of output tokens; default: the engine file's
    price_usd_per_hour: float | None = None  # of what it runs on; default: the comparison's

    @property
    def attached(self) -> bool:
        """Whether it is a server that already runs."""
        return bool(self.url)


def candidates_of(engines: Sequence[str], tables: Sequence[Candidate], where: str) -> tuple[Candidate, ...]:
    """The candidates of the short form (`engines = [...]`) and of the long one, with every name filled in.

    Raises HarnessError for a duplicate name, a name that cannot be a folder's, and keys that exclude each other."""
    found = [Candidate(engine=name, name=name) for name in engines]
    for i, short in enumerate(found):
        _check(short, f"{where}: engines[{i}]")
    for i, table in enumerate(tables):
        named = table if table.name else replace(table, name=table.engine)
        _check(named, f"{where}: candidate[{i}]")
        found.append(named)
    before: dict[str, str] = {}
    for one in found:
        folder = one.name.casefold()  # some file systems do not tell upper case from lower case
        if folder in before:
            names = " and ".join(visible(name, 60) for name in dict.fromkeys((before[folder], one.name)))
            raise HarnessError(f"{where}: two candidates are named {names}; give one of them another name.")
        before[folder] = one.name
    return tuple(found)


def profile_of(common: Profile, candidate: Candidate, where: str) -> Profile:
    """The comparison's profile with this candidate's changes. Raises HarnessError."""
    for name in candidate.profile:
        if name not in {f.name for f in fields(Profile)}:
            allowed = [f"profile.{f.name}" for f in fields(Profile)]
            raise unknown("key", f"profile.{name}", allowed, f"{where}: candidate {candidate.name}")
    try:
        return msgspec.convert({**asdict(common), **candidate.profile}, Profile)
    except msgspec.ValidationError as problem:
        raise HarnessError(f"{where}: candidate {candidate.name}: profile: {visible(str(problem))}") from None


def _check(candidate: Candidate, where: str) -> None:
    if not candidate.engine:
        raise HarnessError(f"{where}: engine is empty; name the engine that it runs, or whose API it has.")
    if not NAME.fullmatch(candidate.name):
        raise HarnessError(
            f"{where}: name is '{visible(candidate.name, 60)}'; it names a folder: letters, digits, '.', '_' and '-' "
            "only, with a letter or digit first and no '.' last."
        )
    if len(candidate.name) > LONGEST_NAME:
        raise HarnessError(f"{where}: name has {len(candidate.name)} characters; at most {LONGEST_NAME}.")
    where = f"{where} ({candidate.name})"
    for name in candidate.env:
        if not name or "=" in name:
            raise HarnessError(f"{where}: env: '{visible(name, 60)}' cannot be the name of a variable.")
    check_request(candidate, where)
    given = {f.name for f in fields(Candidate) if getattr(candidate, f.name) not in ("", (), {}, None, False)}
    if candidate.attached:
        for key in (*_STARTING, "profile"):
            if key in given:
                raise HarnessError(
                    f"{where}: {key} cannot be combined with url: the harness does not start that server."
                )
    else:
        for key in _ATTACHING:
            if key in given:
                raise HarnessError(f"{where}: {key} is for a server that already runs; it needs url.")
    if candidate.price_usd_per_hour is not None:
        check_positive("price_usd_per_hour", candidate.price_usd_per_hour, where)
    for one, other in itertools.combinations(("image", "version", "python", "program"), 2):
        if {one, other} <= given:
            raise HarnessError(f"{where}: {one} and {other} exclude each other; leave one out.")
    if "image" in given and candidate.launch == "process":
        raise HarnessError(f"{where}: image is for containers, but launch is process.")
    if candidate.launch == "compose" and given & {"python", "program", "version"}:
        key = min(given & {"python", "program", "version"})
        raise HarnessError(f"{where}: {key} is for a native start, but launch is compose.")


def check_request(candidate: Candidate, where: str) -> None:
    """Raises HarnessError for changes of the requests that contradict each other."""
    for name in (*candidate.fields, *candidate.drop, *([candidate.length_field] if candidate.length_field else [])):
        if not all(name.split(".")):
            raise HarnessError(f"{where}: '{name}' is no field's name; a dot stands between two names: a.b.")
    for name in _SEVERAL:
        if candidate.fields.get(name, 1) != 1:
            raise HarnessError(f"{where}: {name} asks for several answers at once; one is measured for each request.")
    for name in candidate.drop:
        if name in ("prompt", "messages"):
            raise HarnessError(f"{where}: {name} is the prompt and cannot be left out.")
        if name in candidate.fields or name == candidate.length_field:
            raise HarnessError(f"{where}: {name} is both asked for and left out; decide for one.")
