"""The checks of every ``limit=``, and of other numbers of things."""


def check_limit(limit: int | None) -> int | None:
    """Return *limit*, or say what is wrong with it."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be a whole number, not {limit!r}")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    return limit


def check_whole(name: str, value: int | None, least: int) -> int | None:
    """Return *value*, which may be None, or say what is wrong with it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number or None, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value
