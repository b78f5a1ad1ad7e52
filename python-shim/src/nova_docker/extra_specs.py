"""Nova's API asks here whether an extra spec of a flavor that begins with `docker:` is right, when it is set.

It is an entry point of the group nova.api.extra_spec_validators. It imports nothing of the driver: where nova-api runs,
there may be neither h2 nor protobuf. What is right stands in extra_specs.json, which is made from the agent's own table
of keys. It takes whatever the agent takes. What only the agent can know, as whether a size fits a flavor's memory, the
launch says.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from nova import exception
from nova.api.validation.extra_specs import base

PREFIX = "docker:"
_FILE = Path(__file__).with_name("extra_specs.json")


class Validator(base.ExtraSpecValidator):
    """One key, or all that begin with it. A refusal never repeats the value: it may be a password."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        named = spec["key"].endswith(":")
        super().__init__(
            name=f"{PREFIX}{spec['key']}{'{name}' if named else ''}",
            description=spec["description"],
            value={"type": str, "description": spec["allowed"]},
            # Any name: a wrong one is then refused with what is allowed.
            parameters=[{"name": "name", "pattern": ".*"}] if named else [],
        )

    def validate(self, name: str, value: str) -> None:
        """Raises Nova's ValidationError if the agent would refuse it."""
        spec = self.spec
        if "only" in spec:
            self._refuse(f"{name}: {spec['only']}")
        asked = name.removeprefix(PREFIX).removeprefix(spec["key"])
        if not re.fullmatch(spec.get("name", "[\\s\\S]*"), asked) or (spec["key"].endswith(":") and not asked):
            self._refuse(f"{name} has a wrong name after its colon (allowed: {spec['allowed']})")
        if not self._takes(value):
            self._refuse(f"{name} has a wrong value (allowed: {spec['allowed']})")

    def _takes(self, value: str) -> bool:
        if "\0" in value or not re.fullmatch(self.spec.get("value", "[\\s\\S]*"), value):
            return False
        least, most = self.spec.get("least"), self.spec.get("most")
        return (least is None or int(value) >= least) and (most is None or int(value) <= most)

    @staticmethod
    def _refuse(problem: str) -> NoReturn:
        raise exception.ValidationError(f"Validation failed; {problem}.")


def register() -> list[Validator]:
    """What Nova asks the entry point for."""
    return [Validator(spec) for spec in json.loads(_FILE.read_text(encoding="utf-8"))]
