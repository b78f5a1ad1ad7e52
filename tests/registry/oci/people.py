"""Users and projects of Keystone that tests make."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any

import openstack
from harness.waiting import eventually
from openstack.connection import Connection

from oci.client import Registry
from oci.target import Target


@dataclasses.dataclass(frozen=True)
class Someone:
    """A user of the default domain, with the role `member` in a project of the same name."""

    name: str
    password: str
    user_id: str
    project_id: str

    def at(self, target: Target) -> Registry:
        """This user at a registry."""
        return Registry(target, self.name, self.password)


@dataclasses.dataclass(frozen=True)
class Credential:
    """An application credential: what to log in with instead of name and password."""

    id: str
    secret: str


class People:
    """Makes them, as an administrator, and takes them away."""

    def __init__(self, admin: Connection) -> None:
        self._admin = admin
        self._made: list[Someone] = []
        self.project_ids: set[str] = set()
        """The projects that were made."""

    def make(self, name: str) -> Someone:
        password = secrets.token_hex(8)
        identity = self._admin.identity
        project_id = self.make_project(name)
        user = identity.create_user(name=name, password=password, domain_id="default", default_project_id=project_id)
        someone = Someone(name, password, user.id, project_id)
        self._made.append(someone)
        self.admit(someone.user_id, project_id)
        return someone

    def make_project(self, name: str) -> str:
        """A project of nobody's; its id."""
        project = self._admin.identity.create_project(name=name, domain_id="default")
        self.project_ids.add(project.id)
        return str(project.id)

    def connect(self, someone: Someone) -> Connection:
        """A connection to the cloud as somebody who was made."""
        auth = {**self._admin.config.get_auth_args(), "username": someone.name, "password": someone.password}
        auth["project_name"] = someone.name
        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth=auth,
            region_name=self._admin.config.region_name,
            identity_api_version="3",
        )

    def admit(self, user_id: str, project_id: str, role: str = "member") -> None:
        """Give a user a role in a project."""
        role_id = self._admin.identity.find_role(role, ignore_missing=False).id
        answer = self._admin.identity.put(f"/projects/{project_id}/users/{user_id}/roles/{role_id}")
        assert answer.status_code == 204, answer.text

    def expel(self, user_id: str, project_id: str, role: str = "member") -> None:
        role_id = self._admin.identity.find_role(role, ignore_missing=False).id
        self._admin.identity.delete(f"/projects/{project_id}/users/{user_id}/roles/{role_id}")

    def take_away(self) -> None:
        for someone in self._made:
            self._admin.identity.delete_user(someone.user_id, ignore_missing=True)
        for project_id in self.project_ids:
            self._admin.identity.delete_project(project_id, ignore_missing=True)


def make_credential(connection: Connection, name: str, **fields: object) -> Credential:
    """An application credential of the connection's user in its project."""
    body = {"application_credential": {"name": name, **fields}}

    def answered() -> list[Any] | None:
        answer = connection.identity.post(f"/users/{connection.current_user_id}/application_credentials", json=body)
        # While roles of others are taken away, Keystone's cache forgets for a moment who has which.
        forgotten = answer.status_code == 400 and "Could not find role assignment" in answer.text
        return None if forgotten else [answer]

    [answer] = eventually(answered, "Keystone finds the user's roles")
    assert answer.status_code == 201, answer.text
    made = answer.json()["application_credential"]
    return Credential(made["id"], made["secret"])


def delete_credential(connection: Connection, credential: Credential) -> None:
    connection.identity.delete(f"/users/{connection.current_user_id}/application_credentials/{credential.id}")
