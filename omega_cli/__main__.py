"""`python -m omega_cli` is `omega`."""

from omega_cli.cli import main

if __name__ == "__main__":
    main()
