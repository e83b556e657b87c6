"""Config: what a command line means. Imports neither torch nor pandas."""
