"""Keys name places and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wdsremux.errors import FormatError
from wdsremux.format import keys

NUMBER = st.integers(0, 2**32 - 1)


@given(fragment=NUMBER, row=NUMBER, part=NUMBER)
def test_place_is_the_inverse_of_key(fragment: int, row: int, part: int) -> None:
    key = keys.key(fragment, row, part)
    assert keys.place(key) == (fragment, row, part)
    assert not set(key) & set(". /")  # break DALI's index
    assert len(f"{key}.json") <= 100  # the room for a name in a USTAR header


def test_key() -> None:
    assert keys.key(12, 3) == "000012-000003"
    assert keys.key(1_234_567, 3, 2) == "1234567-000003-2"


@given(text=st.from_regex(r"0{0,6}\d{1,9}-0{0,6}\d{1,9}(-\d{1,3})?\n?", fullmatch=True))
@example("000001-000001-0")
@example("0000001-000001")
@example("00000٣-000001")
def test_a_key_has_one_place(text: str) -> None:
    """What is taken for a key is the text that the key of its place has: no two texts for one sample."""
    try:
        place = keys.place(text)
    except FormatError:
        return
    assert keys.key(*place) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "000001",
        "00001-000001",
        "000001-000001-",
        "000001-000001.jpg",
        "../000001-000001",
        "000001-000001\n",
        "-1-000001",
    ],
)
def test_hostile_strings_are_no_keys(text: str) -> None:
    with pytest.raises(FormatError, match="is not a key of a converted sample"):
        keys.place(text)
