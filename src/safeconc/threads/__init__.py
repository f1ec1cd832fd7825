"""The blocking mirror: so far how a thread waits, and nothing public yet.

Layers, lowest first; a module imports only what stands before it::

    _waiter                         a thread's place in a line
"""
