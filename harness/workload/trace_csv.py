"""Traces in CSV: Azure's and BurstGPT's, as published and as other programs saved them again."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.visible import visible
from harness.workload.numbers import decimal
from harness.workload.trace_json import NO_PROMPTS, PROMPTS, unknown_format
from harness.workload.trace_rows import INCOMPLETE, MOST_TOKENS, Rows, wrong

_WHOLE = re.compile(r"[0-9]{1,15}(?:\.0*)?|[0-9](?:\.[0-9]{0,9})?[eE]\+?[0-9]{1,2}")  # 30, 30.0 (pandas), 1e+05 (R)
_MISSING = {"", "na", "n/a", "nan", "null", "none"}
_TIMES = {True: "a time: seconds, or a date and a time in ISO 8601", False: "a date and a time in ISO 8601"}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True, slots=True)
class _Format:
    """The columns of time, prompt length and answer length. `seconds`: a number in the time column is in seconds;
    otherwise it is a date and a time, or since 1970."""

    columns: tuple[str, str, str]
    seconds: bool


_FORMATS = {
    "azure": _Format(("TIMESTAMP", "ContextTokens", "GeneratedTokens"), seconds=False),
    "burstgpt": _Format(("Timestamp", "Request tokens", "Response tokens"), seconds=True),
}
CSV_FORMATS = tuple(_FORMATS)


def read_csv(lines: Iterable[str], file: str, asked: str) -> Rows:
    """The rows of a trace in CSV. `asked`: its format, or empty to tell it by its columns. Raises HarnessError with the
    file, the line and the column."""
    reader = csv.reader(lines, strict=True)
    try:
        return _read(reader, lambda: reader.line_num, file, asked)
    except csv.Error as problem:  # quotes that do not end, and the like
        raise wrong(file, reader.line_num, f"not CSV: {problem}.") from None


def _read(reader: Iterator[list[str]], line: Callable[[], int], file: str, asked: str) -> Rows:
    # Spreadsheets begin some files with a line that says the separator.
    head = next((row for row in reader if any(map(str.strip, row)) and row != ["sep=", ""]), [])
    rows = Rows(format=asked or _format_of(head, file, line()))
    form = _FORMATS[rows.format]
    time, inputs, outputs = (_place(head, column, file, line()) for column in form.columns)
    rows.not_used(name.strip() for i, name in enumerate(head) if name.strip() and i not in (time, inputs, outputs))
    clock = _clock(form.seconds)
    width, lengths = len(head), (form.columns[1], form.columns[2])
    for row in reader:
        if len(row) != width:
            row = _fitted(row, width, file, line())
        if not any(row):
            continue
        tokens = [_tokens(row[i], name, file, line()) for i, name in zip((inputs, outputs), lengths, strict=True)]
        if row[time].strip().lower() in _MISSING or None in tokens:
            rows.left_out[INCOMPLETE] += 1
            continue
        try:
            at_s = clock(row[time].strip())
        except (ValueError, OverflowError):
            have = visible(row[time].strip(), 40)
            raise wrong(file, line(), f"{form.columns[0]} is '{have}', which is not {_TIMES[form.seconds]}.") from None
        rows.add(at_s, tokens[0] or 0, tokens[1] or 0)
    return rows


def _fitted(row: Sequence[str], width: int, file: str, line: int) -> list[str]:
    """The row without the empty cells that spreadsheets append."""
    if any(row) and (len(row) < width or any(row[width:])):
        raise wrong(file, line, f"{len(row)} columns, but the first line names {width}.")
    return list(row[:width]) if any(row) else [""] * width


def _plain(name: str) -> str:
    """A column's name without what R, pandas and spreadsheets change in it: blanks, dots, case."""
    return re.sub(r"[\W_]", "", name).lower()


def _format_of(head: Sequence[str], file: str, line: int) -> str:
    def fits(names: Iterable[str]) -> str | None:
        have = set(map(_plain, names))
        return next((key for key, form in _FORMATS.items() if set(map(_plain, form.columns[1:])) <= have), None)

    if found := fits(head):
        return found
    whole = ",".join(head)
    for separator, words in _SEPARATORS.items():
        if fits(whole.split(separator)):
            raise wrong(file, line, f"its columns are separated by {words}; save it with commas as the separator.")
    if held := sorted(PROMPTS & {name.strip().lower() for name in head}):
        raise wrong(file, line, f"the column {held[0]} holds a prompt; {NO_PROMPTS}.")
    raise unknown_format(file, line, f"no JSON object, and none of the columns below among {len(head)}")


def _place(head: Sequence[str], column: str, file: str, line: int) -> int:
    found = [i for i, name in enumerate(head) if _plain(name) == _plain(column)]
    if len(found) != 1:
        how = "is missing" if not found else f"is there {len(found)} times"
        raise wrong(file, line, f"the column {column} {how}.")
    return found[0]


def _tokens(cell: str, column: str, file: str, line: int) -> int | None:
    """The tokens in a cell; None: it is empty."""
    text = cell.strip()
    if text.isdecimal() and text.isascii() and len(text) < 10:  # nearly all
        return int(text)
    if text.lower() in _MISSING:
        return None
    value = float(text) if _WHOLE.fullmatch(text) else 0.5
    if not value.is_integer():
        raise wrong(file, line, f"{column} is '{visible(text, 40)}'; it must be a whole number from 0.")
    if value > MOST_TOKENS:
        raise wrong(file, line, f"{column} is {visible(text, 40)}; it must be at most {MOST_TOKENS}.")
    return int(value)


def _clock(seconds: bool) -> Callable[[str], float]:
    """Reads time stamps as seconds since the first one: numbers, or dates with a time. The first one decides which.

    Differences are taken between dates, because seconds since 1970 in a float are only exact to 0.2 us. Fractions
    below a microsecond are cut; a time without a zone is taken as UTC, because in local time one hour repeats each
    autumn."""
    origin: datetime | int | float | None = None
    unit = 1.0

    def read(text: str) -> float:
        nonlocal origin, unit
        if not isinstance(origin, datetime):
            try:
                number = int(text) if text.isascii() and text.isdecimal() and len(text) < 25 else decimal(text)
            except ValueError:
                if origin is not None:
                    raise
            else:
                if origin is None:
                    origin, unit = (0 if seconds else number), _unit(number, seconds)
                return (number - origin) / unit
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        origin = origin or moment
        assert isinstance(origin, datetime)
        return (moment - origin).total_seconds()

    return read


def _unit(first: float, seconds: bool) -> float:
    """How many of its units a second has. Times since 1970 are told by their size: 1.7e9 in seconds, 1.7e12 in ms.
    Raises ValueError for a small number that has no unit of its own."""
    if not seconds and first < 1e8:
        raise ValueError(first)
    return next((1000.0**i for i in range(3) if first < 1e11 * 1000**i), 1e9)
