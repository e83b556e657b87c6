"""`python -m digits_sweep.report`: write one or more sweeps as a page, and print their tables (Markdown in a pipe)."""

from digits_sweep.report.command import main

if __name__ == "__main__":
    main()
