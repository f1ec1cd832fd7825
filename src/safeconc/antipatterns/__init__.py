"""Each vice beside its cure: the leak itself, runnable.

Every module here has two functions of one signature: ``leaky``, as it is found in
services, and ``safe``, which does the same and leaves nothing behind. In tasks::

    forgotten_cancellation    a worker that does not know that its caller is gone
    abandoned_senders         senders that wait for a reader who has given up
    unstopped_ticker          a loop that ticks, and that nobody stops
    silent_producer           a reader that waits for an end which is never sent
    unbounded_recursion       a task for every link, and for every link of those
    orphaned_siblings         calls that go on after their group has failed
    abandoned_thread          a thread that works on for a caller who is gone

And in blocking code::

    unjoined_thread           a thread that is started, and that nobody joins
    unstopped_timer           a timer that sets the next one, and that nobody cancels
    executor_per_call         a pool of threads for each call, never shut down
    eager_map                 a map that takes all there is before it gives anything

``safeconc demo`` runs them and counts what is left.
"""
