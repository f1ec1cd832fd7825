"""Text from strangers, made fit to be shown."""

from itertools import filterfalse

LINE = 120
"""Characters that a name takes at most."""

MORE = "..."


def one_line(value: object, limit: int = LINE) -> str:
    """Return *value* as one line of printable text, at most *limit* characters long.

    Names of tasks and threads come from users of users. A newline in one could forge
    a line of a report, an escape sequence repaint the terminal, a megabyte drown all
    that stands around it, and what is no string may raise when asked for one.
    """
    if not isinstance(value, str):
        try:
            value = str(value)
        except Exception as exc:  # noqa: BLE001 - whatever a stranger's __str__ raises
            value = f"<a {type(value).__name__} whose text raises {type(exc).__name__}>"
    # First cut, then look; and by str's own methods: a subclass may have others.
    head = str.__getitem__(value, slice(limit + 1))
    if not str.isprintable(head):
        for character in filterfalse(str.isprintable, set(head)):
            escaped = character.encode("unicode_escape").decode("ascii")
            head = head.replace(character, escaped)
    if len(head) <= limit:
        return str(head)
    return f"{str.__getitem__(head, slice(limit - len(MORE)))}{MORE}"
