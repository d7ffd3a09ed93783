"""Replay: history and new events in, decisions out. No clock, no I/O, no thread, no provider."""
