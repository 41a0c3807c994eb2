"""The ranges of numbers in stored files: what lies outside is no measurement, and overflows where it is computed with.

Wide on purpose. They are checked when a file is read, with the name of the field."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MOST_COUNT = 1_000_000_000
MOST_S = 1e9  # 32 years
MOST = 10**18  # of anything: bytes, parameters, operations a second

Count = Annotated[int, Meta(ge=0, le=MOST_COUNT)]
Signed = Annotated[int, Meta(ge=-MOST_COUNT, le=MOST_COUNT)]
Ordinal = Annotated[int, Meta(ge=1, le=MOST_COUNT)]  # counts from 1
Large = Annotated[int, Meta(ge=0, le=MOST)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Seconds = Annotated[float, Meta(ge=0, le=MOST_S)]
Error = Annotated[float, Meta(ge=-MOST_S, le=MOST_S)]  # seconds; a measured time minus a true one
Amount = Annotated[float, Meta(ge=0, le=MOST)]
Number = Annotated[float, Meta(ge=-MOST, le=MOST)]
Name = Annotated[str, Meta(max_length=200)]  # in the legend of every chart
Color = Annotated[str, Meta(pattern="^#[0-9a-fA-F]{6}$")]  # it is written into a style sheet
Setting = bool | int | float | str | None  # of an engine, as read back
