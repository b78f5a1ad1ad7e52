import configparser

import pytest
from minicloud.config.ini import merge, render


def test_what_is_rendered_is_read_back() -> None:
    text = render({"DEFAULT": {"use_stderr": True, "workers": 1, "name": "a b"}, "x": {"empty": ""}})
    parser = configparser.RawConfigParser(default_section="none")
    parser.read_string(text)
    assert dict(parser["DEFAULT"]) == {"use_stderr": "true", "workers": "1", "name": "a b"}
    assert parser["x"]["empty"] == ""


def test_an_option_of_several_values_is_said_several_times() -> None:
    assert render({"uwsgi": {"http-socket": ("a:1", "b:1")}}) == "[uwsgi]\nhttp-socket = a:1\nhttp-socket = b:1\n"


def test_a_line_break_in_a_value_is_refused_by_the_option_s_name() -> None:
    with pytest.raises(ValueError, match=r"\[database\] connection"):
        render({"database": {"connection": "a\n[DEFAULT]"}})


def test_a_later_part_wins_option_by_option() -> None:
    merged = merge({"DEFAULT": {"host": "a", "debug": False}}, {"DEFAULT": {"host": "b"}, "nova": {"x": 1}})
    assert merged == {"DEFAULT": {"host": "b", "debug": False}, "nova": {"x": 1}}
