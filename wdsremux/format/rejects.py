"""rejects.jsonl: one JSON object a line for each row, or part of one, that could not be baked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

_MOST = 2**32  #: fragments, rows and parts are u4 in the sample table, too


@dataclass(frozen=True, slots=True)
class RejectLine:
    """A line, its keys in the order in which they are written."""

    fragment: int
    row: int  #: of the fragment
    part: int | None  #: None: the whole row
    where: str | None  #: what the source calls the image
    column: str | None  #: whose value was at fault
    reason: str

    def dumps(self) -> bytes:
        """With the line's end."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @property
    def sound(self) -> bool:
        """Whether each value is of its type, as far as a file can be believed."""
        numbers = [self.fragment, self.row] if self.part is None else [self.fragment, self.row, self.part]
        texts = [text for text in (self.where, self.column, self.reason) if text is not None]
        return (
            all(type(number) is int and 0 <= number < _MOST for number in numbers)
            and all(isinstance(text, str) for text in texts)
            and self.reason is not None
        )


def loads(line: bytes) -> RejectLine | None:
    """What a line says; None if it is no such line."""
    try:
        found = RejectLine(**json.loads(line))
    except (ValueError, RecursionError, TypeError):  # no JSON; no object, or of other keys
        return None
    return found if found.sound and line.endswith(b"\n") else None
