"""The one error that a user is meant to read."""


class OmegaError(Exception):
    """What went wrong and where (`message`), and what to do about it (`hint`).

    Raised anywhere below the CLI; `cli.py` alone prints it (exit code 1, no traceback).
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
