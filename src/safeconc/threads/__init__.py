"""The blocking mirror: the same names and promises, over real threads.

Layers, lowest first; a module imports only what stands before it::

    _waiter                         a thread's place in a line
"""
