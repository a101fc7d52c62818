"""How fast and how small, measured on the real thing: `make bench` prints one table and writes bench.json."""
