"""The table of keys, and the page that is made of it."""

from __future__ import annotations

from pathlib import Path

from nova_docker_compose import building, nested
from nova_docker_compose.guide import guide
from nova_docker_compose.keys import Fate

PAGE = Path(__file__).parents[1] / "docs" / "keys.md"


def test_the_page_of_keys_says_what_the_table_says() -> None:
    assert PAGE.read_text() == guide() + "\n", "write it anew: python -m nova_docker_compose.guide >docs/keys.md"


def test_the_table_of_build_says_what_the_builder_takes() -> None:
    assert {key for key, (fate, _) in nested.BUILD.items() if fate is Fate.TAKEN} == set(building._TAKEN)
