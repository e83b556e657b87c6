"""Hydra and OmegaConf: composition, their complaints in this program's words, launchers."""
