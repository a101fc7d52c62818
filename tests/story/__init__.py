"""A first hour and an operator's night, played with the real programs against stubs on loopback. The transcripts are
written into docs/tutorial.md and docs/how-to/when-status-shows.md: `make transcripts`. A test plays them again and
compares."""
