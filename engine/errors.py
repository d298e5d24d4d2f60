"""The one exception a user can mend: its message is the sentence that they read."""

from __future__ import annotations


class InputError(ValueError):
    """Something given by the user is not usable; the message says what, what is allowed and what to do."""
