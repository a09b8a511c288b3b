"""Docker or Podman behind one small interface, also on machines without registry and systemd."""

# ruff: noqa: S108, S603, S607 - programs of the user's PATH; paths inside the container

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PULL_SECONDS = 300
_BUILD_SECONDS = 1800
_CALL_SECONDS = 120
_DEBIAN = "bookworm"
_DEBIAN_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# cgroupfs and runc: what works without systemd. Without limits of its own, Podman asks for more
# open files and processes than a container may be allowed that it runs in itself.
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
_NODE_DOCKERFILE = """\
ARG BASE
FROM ${BASE}
COPY node /usr/local/bin/node
COPY npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
"""


class EngineError(RuntimeError):
    """The engine or a command failed. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine.

    Attributes:
        program: `docker` or `podman`.
        environment: what its calls run with.
        scratch: a folder for temporary files.
    """

    program: str
    environment: Mapping[str, str]
    scratch: Path

    def call(self, arguments: Sequence[str], timeout: float = _CALL_SECONDS) -> str:
        """Run the engine and return its standard output.

        Raises:
            EngineError: it failed or took longer than `timeout` seconds.
        """
        command = [self.program, *arguments]
        try:
            done = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=timeout,
                errors="replace", check=False,
                cwd=self.scratch,  # where Podman's monitor leaves a file when memory runs out
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EngineError(f"{' '.join(command[:3])} took over {timeout:.0f} s") from None
        if done.returncode != 0:
            raise EngineError(
                f"{' '.join(command[:3])} failed:\n{(done.stderr or done.stdout)[-4000:]}"
            )
        return done.stdout

    def succeeds(self, arguments: Sequence[str], timeout: float = _CALL_SECONDS) -> bool:
        """Whether the engine does it without an error."""
        try:
            self.call(arguments, timeout)
        except EngineError:
            return False
        return True

    def inspect(self, name: str, template: str) -> str:
        """One fact about an image or a container, by a Go template."""
        return self.call(["inspect", "--format", template, name]).strip()

    def run_once(self, image: str, command: Sequence[str]) -> str:
        """Run a command in a new read-only container; its standard output."""
        program, *arguments = command
        return self.call(
            ["run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp",
             "--entrypoint", program, image, *arguments]
        )  # fmt: skip

    def logs(self, container: str) -> str:
        """The last lines that a container wrote."""
        done = subprocess.run(
            [self.program, "logs", "--tail", "50", container], env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=_CALL_SECONDS, check=False,
        )  # fmt: skip
        return done.stdout

    def build(self, context: Path, tag: str) -> None:
        """Build the Dockerfile on stand-ins for bases that cannot be pulled."""
        bases = {
            name: self._base(name, image)
            for name, image in re.findall(
                r"^ARG (\w+_IMAGE)=(\S+)$", (context / "Dockerfile").read_text(), re.MULTILINE
            )
        }
        arguments = [f"--build-arg={name}={image}" for name, image in bases.items()]
        say("building the image ...")
        self.call(
            ["build", *self._build_options(), *arguments, "--tag", tag, str(context)],
            timeout=_BUILD_SECONDS,
        )

    def _base(self, name: str, image: str) -> str:
        """`image` if it is here or can be pulled, else the name of a stand-in."""
        if self.succeeds(["image", "inspect", image]):
            return image
        say(f"pulling {image} ...")
        if self.succeeds(["pull", image], timeout=_PULL_SECONDS):
            return image
        say("cannot pull it: using a substitute")
        python = f"localhost/stand-in-python:{_DEBIAN}"
        if not self.succeeds(["image", "inspect", python]):
            self._import_debian(python)
        if name == "PYTHON_IMAGE":
            return python
        node = f"localhost/stand-in-node:{_DEBIAN}"
        if not self.succeeds(["image", "inspect", node]):
            self._add_node(python, node)
        return node

    def _import_debian(self, tag: str) -> None:
        if not shutil.which("mmdebstrap"):
            raise EngineError(
                "base images cannot be pulled, and mmdebstrap, which builds substitutes, is not "
                "installed: apt-get install mmdebstrap"
            )
        say(f"making a base image of Debian {_DEBIAN} packages ...")
        archive = self.scratch / "base.tar"
        done = subprocess.run(
            ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={_DEBIAN_PACKAGES}",
             _DEBIAN, archive],
            capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise EngineError(f"mmdebstrap failed:\n{done.stderr[-2000:]}")
        self.call(["import", str(archive), tag], timeout=_BUILD_SECONDS)
        archive.unlink()

    def _add_node(self, base: str, tag: str) -> None:
        node, npm = shutil.which("node"), shutil.which("npm")
        if not node or not npm:
            raise EngineError("no Node on PATH to build a substitute for its base image")
        folder = self.scratch / "node"
        folder.mkdir()
        shutil.copy(Path(node).resolve(), folder / "node")
        shutil.copytree(Path(npm).resolve().parent.parent, folder / "npm", symlinks=True)
        (folder / "Dockerfile").write_text(_NODE_DOCKERFILE)
        options = [*self._build_options(), f"--build-arg=BASE={base}"]
        self.call(["build", *options, "--tag", tag, str(folder)], timeout=_BUILD_SECONDS)

    def _build_options(self) -> list[str]:
        """The Docker image format, and this machine's certificates, lent and not copied."""
        if self.program == "docker":
            return []
        options = ["--format=docker"]
        if self.environment.get("SSL_CERT_FILE"):
            pip, npm = self.scratch / "pip.conf", self.scratch / "npmrc"
            pip.write_text(f"[global]\ncert = {_CA_BUNDLE}\n")
            npm.write_text(f"cafile={_CA_BUNDLE}\n")
            lent = {
                self.environment["SSL_CERT_FILE"]: _CA_BUNDLE,
                pip: "/etc/pip.conf",
                npm: "/usr/local/etc/npmrc",
            }
            options += [f"--volume={here}:{there}:ro" for here, there in lent.items()]
        return options


def find_engine(scratch: Path) -> Engine:
    """Docker if its daemon answers, else Podman.

    Raises:
        EngineError: there is neither.
    """
    docker = Engine("docker", os.environ, scratch)
    if shutil.which("docker") and docker.succeeds(["info"]):
        return docker
    if not shutil.which("podman"):
        raise EngineError(
            "no container engine: start Docker, or apt-get install podman runc mmdebstrap"
        )
    if Path("/run/systemd/system").exists():
        return Engine("podman", os.environ, scratch)
    conf = scratch / "containers.conf"
    conf.write_text(_CONTAINERS_CONF)
    isolation = {"BUILDAH_ISOLATION": "chroot", "CONTAINERS_CONF": str(conf)}
    return Engine("podman", {**os.environ, **isolation}, scratch)


def say(text: str) -> None:
    """Progress, to standard error."""
    sys.stderr.write(f"[image] {text}\n")
