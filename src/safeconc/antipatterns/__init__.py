"""Each vice beside its cure: the leak itself, runnable.

Every module here has two async functions of one signature: ``leaky``, as it is
found in services, and ``safe``, which does the same and leaves nothing behind::

    forgotten_cancellation    a worker that does not know that its caller is gone
    abandoned_senders         senders that wait for a reader who has given up
    unstopped_ticker          a loop that ticks, and that nobody stops
    silent_producer           a reader that waits for an end which is never sent
    unbounded_recursion       a task for every link, and for every link of those
    orphaned_siblings         calls that go on after their group has failed
    abandoned_thread          a thread that works on for a caller who is gone

``safeconc demo`` runs them and counts what is left.
"""
