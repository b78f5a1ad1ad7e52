import json
import stat
from pathlib import Path

from minicloud import passwords


def test_the_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    passwords.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_was_opened_up_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    passwords.load_or_create(path)
    path.chmod(0o644)
    passwords.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_secrets_never_change_and_missing_ones_are_added(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    first = passwords.load_or_create(path)
    stored = json.loads(path.read_text())
    del stored["rabbitmq"]
    path.write_text(json.dumps(stored))
    second = passwords.load_or_create(path)
    assert {name: second[name] for name in stored} == stored
    assert second["rabbitmq"] not in ("", first["rabbitmq"])
    assert passwords.load(path) == second


def test_two_clouds_have_no_secret_in_common(tmp_path: Path) -> None:
    one = passwords.load_or_create(tmp_path / "one.json")
    other = passwords.load_or_create(tmp_path / "other.json")
    assert not set(one.values()) & set(other.values())
    assert len(set(one.values())) == len(one)


def test_heat_s_key_has_the_32_characters_that_it_takes(tmp_path: Path) -> None:
    assert len(passwords.load_or_create(tmp_path / "p.json")["heat_encryption"]) == 32


def test_no_secret_shows_in_repr(tmp_path: Path) -> None:
    secrets = passwords.load_or_create(tmp_path / "passwords.json")
    assert not [value for value in secrets.values() if value in repr(secrets)]
