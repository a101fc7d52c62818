"""What agents can ask of the host: a registry of actions, one file each, and the executor that carries them out."""
