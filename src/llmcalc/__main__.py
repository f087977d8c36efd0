"""``python -m llmcalc``."""

from llmcalc.cli import main

if __name__ == "__main__":
    main()
