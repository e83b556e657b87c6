"""Report: from the results on disk to a page that a person reads. Imports neither torch nor Hydra."""

# What a page can be written in; each but the first is a file beside the templates.
ENGLISH = "en"
LANGUAGES = (ENGLISH, "pt-BR")
