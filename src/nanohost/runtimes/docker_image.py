"""Builds the agent image on this machine from shipped files, and names it after the hash of its inputs.

The same inputs give the same tag, so it is built only once until an input changes. The build context is made in memory:
Dockerfile.agent, the pinned requirements and the runner's two packages. Never: pushes an image, or fetches another one
than the base image.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import APIError

from nanohost.config.shipped import shipped_root
from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.docker_engine import connect_engine, engine_errors
from nanohost.runtimes.runner_command import RUNNER_PACKAGES, package_folder
from nanohost.text.translation import gettext_noop, lazy_gettext

Progress = Callable[[str], None]
"""Called with one line for each step, from a thread."""

REPOSITORY = "nanohost-agent"
OWNER_LABEL = "nanohost.agent-image-of"
"""The label of an agent image: the folder of the code that it was built from. Images of other owners are not touched.
"""
NO_TAG = "<none>:<none>"
LOCAL_BASE = "nanohost-base:bookworm"
PUBLIC_BASE = "debian:bookworm-slim"

BUILD_TIMEOUT_S = 1800
"""How long a step of the build may go without output."""

_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")

_FORWARDED_VARIABLES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)

_BUILD_HINT = lazy_gettext("nanohost image build shows the whole build")


async def ensure_image(
    *,
    base_image: str | None = None,
    progress: Progress,
    inputs: Mapping[str, bytes] | None = None,
    owner: str | None = None,
) -> str:
    """Build the agent image if it is missing (about a minute), remove older ones of the same owner, and return its tag.

    `inputs`: a build context in place of the shipped one, with a Dockerfile.agent. `owner`: the owner to label the
    image with. The default owner of the shipped context is its checkout or wheel; another context has none by default.
    Raises RuntimeUnavailable with the last error line of the build.
    """
    if inputs is None:
        inputs, owner = image_inputs(), owner or str(shipped_root())
    return await asyncio.to_thread(_ensure_blocking, base_image, inputs, owner, progress)


def image_inputs() -> dict[str, bytes]:
    """Returns all inputs of the image, by path in the build context."""
    root = shipped_root()
    inputs = {
        "Dockerfile.agent": (root / "Dockerfile.agent").read_bytes(),
        "requirements/agent.txt": (root / "requirements" / "agent.txt").read_bytes(),
    }
    for name in RUNNER_PACKAGES:
        folder = package_folder(name)
        for file in folder.rglob("*.py"):
            inputs[f"packages/{name}/{file.relative_to(folder)}"] = file.read_bytes()
    return inputs


def image_tag(inputs: Mapping[str, bytes], base: str) -> str:
    """Returns the tag of the image built from `inputs` on `base` (a name and an image id)."""
    digest = hashlib.sha256(base.encode())
    for path, content in sorted(inputs.items()):
        digest.update(f"\0{path}\0{len(content)}\0".encode() + content)
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}"


def pack_context(files: Mapping[str, bytes]) -> io.BytesIO:
    """Returns the build context as a tar archive without times and owners, so that the same files give the same
    bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def _ensure_blocking(base_image: str | None, inputs: Mapping[str, bytes], owner: str | None, progress: Progress) -> str:
    client = connect_engine()
    try:
        base, base_id = _resolve_base(client, base_image, progress)
        tag = image_tag(inputs, f"{base} {base_id}")
        if _image_id(client, tag) is None:
            progress(f"Building {tag} on {base}; this takes about a minute, once.")
            _build(client, tag, base, inputs, {} if owner is None else {OWNER_LABEL: owner}, progress)
        if owner is not None:
            _remove_superseded(client, tag, owner, progress)
        return tag
    finally:
        client.close()


def _resolve_base(client: APIClient, requested: str | None, progress: Progress) -> tuple[str, str]:
    """Returns the base image's name and id, which is part of the hash. Fetches the image if it is missing."""
    name = requested or (LOCAL_BASE if _image_id(client, LOCAL_BASE) else PUBLIC_BASE)
    found = _image_id(client, name)
    if found is None:
        progress(f"Fetching {name}.")
        client.timeout = BUILD_TIMEOUT_S
        with engine_errors(lazy_gettext("The base image {name} is neither here nor to be had", name=name)):
            client.pull(name)
        found = _image_id(client, name)
    if found is None:
        raise RuntimeUnavailable(
            lazy_gettext("The base image {name} is not there.", name=name), hint="scripts/base-image makes one"
        )
    return name, found


def _image_id(client: APIClient, name: str) -> str | None:
    with engine_errors(gettext_noop("The Docker engine does not list images")):
        found = client.images(name=name)
    return str(found[0]["Id"]) if found else None


def superseded_images(images: Sequence[Mapping[str, Any]], current: str, in_use: Collection[str]) -> list[str]:
    """Returns which of one owner's images can be removed: their tags, or the id of an image without a tag.

    `current` and `in_use` are ids, because an engine may list a tag with a registry in front. The current image stays,
    the newest other one, for a host that was started before or for a downgrade, and those that containers use.
    """
    others = [image for image in images if _strip_digest_prefix(image["Id"]) != _strip_digest_prefix(current)]
    used = {_strip_digest_prefix(id) for id in in_use}
    newest_first = sorted(others, key=lambda image: int(image["Created"]), reverse=True)
    return [
        name
        for image in newest_first[1:]
        if _strip_digest_prefix(image["Id"]) not in used
        for name in ([tag for tag in image["RepoTags"] or () if tag != NO_TAG] or [image["Id"]])
    ]


def _strip_digest_prefix(id: str) -> str:
    """Returns the id without the kind of digest, which Podman leaves out of some ids."""
    return id.removeprefix("sha256:")


def _remove_superseded(client: APIClient, tag: str, owner: str, progress: Progress) -> None:
    """Remove the owner's superseded images. Ignores errors: the next start of a host tries again."""
    with suppress(RuntimeUnavailable), engine_errors(gettext_noop("The Docker engine does not remove an image")):
        images, current = client.images(filters={"label": f"{OWNER_LABEL}={owner}"}), _image_id(client, tag) or ""
        if not superseded_images(images, current, ()):
            return  # the usual case; do not list all containers of the machine for nothing
        in_use = {one["ImageID"] for one in client.containers(all=True)}
        for name in superseded_images(images, current, in_use):
            with suppress(APIError):  # a container may use it by now
                client.remove_image(name)
                progress(f"Removed the old image {name}.")


def _build(
    client: APIClient,
    tag: str,
    base: str,
    inputs: Mapping[str, bytes],
    labels: Mapping[str, str],
    progress: Progress,
) -> None:
    arguments = {"BASE_IMAGE": base} | {name: os.environ[name] for name in _FORWARDED_VARIABLES if name in os.environ}
    client.timeout = BUILD_TIMEOUT_S
    with engine_errors(lazy_gettext("The image {tag} cannot be built", tag=tag)):
        for line in client.build(
            fileobj=pack_context({**inputs, **_extra_ca()}),
            custom_context=True,
            dockerfile="Dockerfile.agent",
            tag=tag,
            buildargs=arguments,
            labels=dict(labels),
            network_mode="host",
            rm=True,
            forcerm=True,
            decode=True,
        ):
            _report_line(line, tag, progress)


def _report_line(line: Mapping[str, Any], tag: str, progress: Progress) -> None:
    if "error" in line:
        lines = str(line["error"]).strip().splitlines()
        raise RuntimeUnavailable(
            lazy_gettext("The image {tag} cannot be built: {cause}", tag=tag, cause=lines[-1]), hint=_BUILD_HINT
        )
    if text := str(line.get("stream", "")).strip():
        progress(text)


def _extra_ca() -> dict[str, bytes]:
    """Returns the host's own CA certificates, for a build behind a proxy that intercepts TLS. Not part of the hash."""
    for variable in _CA_VARIABLES:
        path = os.environ.get(variable)
        if path and Path(path).is_file():
            return {"extra-ca.crt": Path(path).read_bytes()}
    return {}
