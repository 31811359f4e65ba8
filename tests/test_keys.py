"""Overrides as they are typed: hydra reads back what was meant."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from seqrnn.keys import as_override


@given(st.text(st.characters(blacklist_characters="$", blacklist_categories=["Cs"]), min_size=1))
@example("a\\")
@example("a\\'b\\\\'")
@example("runs (2), [x]")
@example("2024")
@example("1 2  null")
@example("1e3")
@example("NaN")
@example("Null")
@example("glob(*)")
@example(" ")
def test_a_text_is_read_by_hydra_as_it_is(text: str) -> None:
    override = OverridesParser.create().parse_override(as_override("resume", text))
    assert not override.is_sweep_override()
    value = override.value()
    assert not isinstance(value, int | float | None)
    assert str(value) == text


@pytest.mark.parametrize(
    "path", ["outputs/sine-elman/2026-11-22_10-00-00.123456-7", "/home/me/x+y@z%", "a", "../b", "a run"]
)
def test_a_usual_path_needs_no_quotes(path: str) -> None:
    assert as_override("resume", path) == f"resume={path}"
