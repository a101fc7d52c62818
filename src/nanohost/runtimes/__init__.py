"""What runs a container: Docker and Podman, bubblewrap, a plain process. A runtime is one file."""
