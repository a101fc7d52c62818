#!/usr/bin/env bash
# Podman 4.3 through Docker's API: a container's death is an event called `die`, which a filter for `die` does not find; a
# filter for `died` does. Whoever watches for deaths with docker-py as with Docker never hears of one.
#
# Needs root, podman 4.3 and catatonit (Debian 12: apt install podman catatonit). Storage and socket are in a temporary
# folder; the network is used by pip alone.
set -euo pipefail
folder=$(mktemp -d)
service=""
finish() {
    [ -z "$service" ] || { kill "$service" && wait "$service"; } 2>/dev/null || true
    rm -rf --one-file-system "$folder"
}
trap finish EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check docker==7.2.0

printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/root"\n' "$folder" "$folder" >"$folder/storage.conf"
cat >"$folder/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "$folder/libpod"
END
export CONTAINERS_CONF="$folder/containers.conf" CONTAINERS_STORAGE_CONF="$folder/storage.conf"
podman version --format 'podman {{.Client.Version}}'
podman system service --time 0 "unix://$folder/podman.sock" >"$folder/log" 2>&1 &
service=$!

"$folder/venv/bin/python" - "$folder/podman.sock" "$(command -v catatonit)" <<'END'
import io
import json
import socket
import sys
import tarfile
import time

import docker

path, program = sys.argv[1:]
for _ in range(100):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        break
    except OSError:
        time.sleep(0.1)
client = docker.APIClient(base_url=f"unix://{path}", version="1.41")
print("docker-py", docker.__version__)

# An image of one static program, which ends at once when it is told nothing.
image = io.BytesIO()
with tarfile.open(fileobj=image, mode="w") as archive:
    archive.add(program, arcname="program")
imported = client.import_image_from_data(image.getvalue())
image_id = json.loads(imported.splitlines()[-1])["status"]

began = int(time.time()) - 1
container = client.create_container(image_id, command=["/program"],
                                    host_config=client.create_host_config(network_mode="none"))["Id"]
client.start(container)
client.wait(container)


def asked_for(**filters: str) -> list[str]:
    until = int(time.time()) + 2  # a moment that has passed finds nothing at all
    found = client.events(since=began, until=until, filters={"type": "container", **filters}, decode=True)
    return [event["status"] for event in found if event["id"] == container]


seen = {"no filter": asked_for(), "event=die": asked_for(event="die"), "event=died": asked_for(event="died")}
for how, events in seen.items():
    print(f"{how}: {events}")
expected = "die" in seen["no filter"] and seen["event=die"] == [] and seen["event=died"] == ["die"]
print("as found" if expected else "IT HAS CHANGED")
sys.exit(0 if expected else 1)
END
