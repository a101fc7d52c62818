"""Runs containers with Docker, Podman, bubblewrap, or as plain processes. A runtime is one file."""
