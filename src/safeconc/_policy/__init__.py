"""The decisions without the waiting.

Each class here is pure: no loop, no thread, no clock of its own. The async and
the blocking primitives wait and wake; what to wait for, and whom to wake, is
decided here, once.
"""
