"""The demo: each vice and its cure, measured in fresh processes.

Lowest first; a module imports only from rows above its own::

    _scenarios  _chart    what is run, and how counts are drawn
    _model                what is measured
    _worker               one measurement, in a process of its own
    _runner               starts the workers
    _screen               the report for people; needs rich
    _command              ``safeconc demo``
"""
