"""What the primitives cost, beside the naive twin and beside the peers.

Run it from the root of the repository::

    python -m benchmarks                    # all of them, some minutes
    python -m benchmarks fan_out --quick    # one of them, some seconds

Layers, lowest first; a module imports only from rows above its own::

    _model                        scenario, contender, target: what is compared
    _watch                        the stopwatch and the memory meter
    context  errgroup  fan_out    the benchmarks: one module, one BENCHMARK
    channel  crawl
    ticker  to_thread
    threads_channel
    threads_fan_out  threads_crawl
    threads_errgroup  cancel_latency
    leak_census  leak_check_clean
    leak_install  leak_report
    _catalog                      finds the benchmarks by their file
    _worker                       one fresh process that runs contenders
    _harness                      starts the workers and collects their readings
    _judge                        readings -> ratios -> targets
    _report                       tables and JSON
    __main__                      the command line

To add a benchmark, put a module without a leading underscore here and give it a
``BENCHMARK``.
"""
