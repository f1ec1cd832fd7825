"""The check of every ``limit=``."""


def check_limit(limit: int | None) -> int | None:
    """Return *limit*, or say what is wrong with it."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be a whole number, not {limit!r}")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    return limit
