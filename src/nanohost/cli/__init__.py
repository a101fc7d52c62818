"""The terminal programs: `nanohost run`, `nanohost chat`, and every operator command as it is typed in a shell."""
