"""Makes the messages of the contract when a wheel is built, and takes the contract along into an sdist.

For each .proto file a module is made at its place (nova_docker/v1/guest_pb2.py) together with its type stub, and for
all of them one file of descriptors, from which nova_docker.descriptors builds the classes when the modules are
imported. So whatever protoc is at hand when the wheel is built serves every release of protobuf's runtime.
"""

from __future__ import annotations

import importlib.resources
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DESCRIPTORS = "descriptors.binpb"

MODULE = '''"""Messages and enumerations of {proto}."""

from nova_docker.descriptors import publish

publish("{proto}", globals())
'''


class CustomBuildHook(BuildHookInterface[Any]):
    """Called by hatchling for wheel and sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the made files to what is packed."""
        include = build_data["force_include"]
        if self.target_name == "sdist":
            include.update({str(proto): f"proto/{name}" for name, proto in self._protos().items()})
        else:
            self._made = tempfile.TemporaryDirectory()
            include.update(self._make(Path(self._made.name)))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the made files."""
        if self.target_name != "sdist":
            self._made.cleanup()

    def _roots(self) -> list[Path]:
        # The contract lies beside this package in the repository, and within it in an sdist.
        root = Path(self.root)
        return [path for path in (root / "proto", root.parent / "proto") if (path / "nova_docker").is_dir()]

    def _protos(self) -> dict[str, Path]:
        found = {
            str(proto.relative_to(root)): proto for root in self._roots() for proto in sorted(root.rglob("*.proto"))
        }
        if not any(name.startswith("nova_docker/v1/") for name in found):
            raise FileNotFoundError("the contract (proto/nova_docker/v1) is neither in nor beside this directory")
        return found

    def _make(self, target: Path) -> dict[str, str]:
        from grpc_tools import protoc

        names = list(self._protos())
        arguments = ["protoc", *(f"--proto_path={root}" for root in self._roots())]
        arguments += [f"--proto_path={importlib.resources.files('grpc_tools') / '_proto'}"]
        arguments += ["--include_imports", f"--descriptor_set_out={target / DESCRIPTORS}", f"--pyi_out={target}"]
        if protoc.main([*arguments, *names]) != 0:
            raise RuntimeError("protoc failed")
        made = {str(target / DESCRIPTORS): f"nova_docker/{DESCRIPTORS}"}
        for name in names:
            module = target / name.replace(".proto", "_pb2.py")
            module.write_text(MODULE.format(proto=name), encoding="utf-8")
            for path in (module, module.with_suffix(".pyi")):
                made[str(path)] = str(path.relative_to(target))
        for package in {str(Path(name).parent) for name in names}:
            init = target / package / "__init__.py"
            init.write_text('"""Made from the contract."""\n', encoding="utf-8")
            made[str(init)] = f"{package}/__init__.py"
        return made
