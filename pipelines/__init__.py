"""The walk from shards to committed cells and what is computed from them; see README.md."""
