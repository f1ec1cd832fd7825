"""Each vice beside its cure: the leak itself, runnable.

Every module here has two async functions of one signature: ``leaky``, as it is
found in services, and ``safe``, which does the same and leaves nothing behind::

    forgotten_cancellation    a worker that does not know that its caller is gone
    abandoned_senders         senders that wait for a reader who has given up
    orphaned_siblings         calls that go on after their group has failed

``safeconc demo`` runs them and counts what is left.
"""
