"""The agent image: its name, its content, and failed builds."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.docker_image import (
    OWNER_LABEL,
    ensure_image,
    image_inputs,
    image_tag,
    pack_context,
    superseded_images,
)

INPUTS = {"Dockerfile.agent": b"FROM x", "requirements/agent.txt": b"a==1"}


@pytest.fixture
def small_build(docker_engine: APIClient, python_image: str) -> Iterator[dict[str, bytes]]:
    """A build that takes no time, removed after the test."""
    dockerfile = f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nLABEL test={uuid.uuid4()}\nCOPY note.txt extra-ca.cr[t] /\n"
    inputs = {"Dockerfile.agent": dockerfile.encode(), "note.txt": b"hello"}
    yield inputs
    base = docker_engine.images(name=python_image)[0]["Id"]
    tag = image_tag(inputs, f"{python_image} {base}")
    if docker_engine.images(name=tag):
        docker_engine.remove_image(tag)


def test_equal_inputs_in_any_order_give_the_same_image_name() -> None:
    assert image_tag(INPUTS, "base 1") == image_tag(dict(reversed(INPUTS.items())), "base 1")


def test_any_change_gives_another_image_name() -> None:
    names = {
        image_tag(INPUTS, "base 1"),
        image_tag(INPUTS, "base 2"),
        image_tag({**INPUTS, "requirements/agent.txt": b"a==2"}, "base 1"),
        image_tag({**INPUTS, "more": b""}, "base 1"),
        image_tag({"Dockerfile.agent": b"FROM xa==1", "requirements/agent.txt": b""}, "base 1"),
    }
    assert len(names) == 5


def test_a_build_context_is_reproducible() -> None:
    assert pack_context(INPUTS).read() == pack_context(dict(reversed(INPUTS.items()))).read()
    with tarfile.open(fileobj=pack_context(INPUTS)) as archive:
        assert sorted(archive.getnames()) == sorted(INPUTS)


def test_only_the_runners_code_is_in_the_image() -> None:
    inputs = image_inputs()
    assert {"Dockerfile.agent", "requirements/agent.txt", "packages/agent_runner/__init__.py"} <= set(inputs)
    folders = {"/".join(path.split("/")[:2]) for path in inputs if path.startswith("packages/")}
    assert folders == {"packages/agent_runner", "packages/nanohost_protocol"}
    assert all(path.endswith(".py") for path in inputs if path.startswith("packages/"))


def listed(id: str, created: int, *tags: str) -> dict[str, object]:
    return {"Id": id, "Created": created, "RepoTags": list(tags) or None}


def test_the_current_image_the_newest_other_and_images_in_use_are_kept() -> None:
    images = [
        listed("sha256:now", 30, "localhost/a:now"),
        listed("before", 20, "a:before"),
        listed("used", 10, "a:used"),
        listed("old", 5, "a:old", "a:old-too"),
        listed("nameless", 4),
        listed("untagged", 3, "<none>:<none>"),
    ]
    assert superseded_images(images, "now", {"sha256:used"}) == ["a:old", "a:old-too", "nameless", "untagged"]


def test_going_back_to_an_older_image_keeps_it_and_the_newest() -> None:
    images = [listed("3", 3, "a:3"), listed("2", 2, "a:2"), listed("1", 1, "a:1")]
    assert superseded_images(images, "sha256:1", ()) == ["a:2"]
    assert superseded_images(images[:1], "3", ()) == superseded_images([], "3", ()) == []


@pytest.mark.docker
async def test_old_images_of_this_install_are_removed_and_no_others(
    docker_engine: APIClient, python_image: str
) -> None:
    owner, stranger = f"/srv/{uuid.uuid4()}", f"/srv/{uuid.uuid4()}"
    said: list[str] = []

    async def build(number: int, whose: str | None) -> str:
        dockerfile = f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nLABEL test={owner}-{number}\n"
        inputs = {"Dockerfile.agent": dockerfile.encode()}
        return await ensure_image(base_image=python_image, progress=said.append, inputs=inputs, owner=whose)

    theirs, nobodys = await build(0, stranger), await build(1, None)
    first = await build(2, owner)
    container = docker_engine.create_container(first, "true")["Id"]
    tags = [theirs, nobodys, first, *[await build(number, owner) for number in (3, 4, 5)]]
    try:
        gone = [tag for tag in tags if not docker_engine.images(name=tag)]
        # Which of the two is older the engine tells in whole seconds, and both may be of the same.
        assert gone in ([tags[3]], [tags[4]])
        assert f"Removed the old image {gone[0]}." in said
        assert len(docker_engine.images(filters={"label": f"{OWNER_LABEL}={owner}"})) == 3
    finally:
        docker_engine.remove_container(container)
        for tag in tags:
            if docker_engine.images(name=tag):
                docker_engine.remove_image(tag)


@pytest.mark.docker
async def test_an_image_is_built_once(small_build: dict[str, bytes], python_image: str) -> None:
    first: list[str] = []
    tag = await ensure_image(base_image=python_image, progress=first.append, inputs=small_build)
    again: list[str] = []
    assert await ensure_image(base_image=python_image, progress=again.append, inputs=small_build) == tag
    assert any("COPY" in line for line in first)
    assert again == []


@pytest.mark.docker
async def test_the_hosts_certificates_are_in_the_build_and_do_not_change_the_image_name(
    small_build: dict[str, bytes], python_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"):
        monkeypatch.delenv(variable, raising=False)
    without = await ensure_image(base_image=python_image, progress=print, inputs=small_build)
    (tmp_path / "ca.crt").write_text("a certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    assert await ensure_image(base_image=python_image, progress=print, inputs=small_build) == without


@pytest.mark.docker
async def test_a_failed_build_is_reported_with_its_last_line(python_image: str) -> None:
    inputs = {"Dockerfile.agent": b"ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN exit 3\n"}
    with pytest.raises(RuntimeUnavailable, match=r"exit 3.*non-zero code: 3"):
        await ensure_image(base_image=python_image, progress=print, inputs=inputs)


@pytest.mark.docker
async def test_a_missing_base_image_is_an_error(docker_engine: APIClient) -> None:
    with pytest.raises(RuntimeUnavailable, match="neither here nor to be had"):
        await ensure_image(base_image="127.0.0.1:1/nobody/nothing:never", progress=print, inputs=INPUTS)
