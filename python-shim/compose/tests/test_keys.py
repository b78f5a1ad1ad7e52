"""The table of keys, and the page that is made of it."""

from __future__ import annotations

from pathlib import Path

from nova_docker_compose import keys

PAGE = Path(__file__).parents[1] / "docs" / "keys.md"


def test_the_page_of_keys_says_what_the_table_says() -> None:
    assert PAGE.read_text() == keys.guide() + "\n", "write it anew: python -m nova_docker_compose.keys >docs/keys.md"
