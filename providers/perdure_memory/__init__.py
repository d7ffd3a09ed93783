"""The reference provider: `memory://name`, a store that lives as long as its process.

It is the contract of `perdure.spi` in its plainest executable form, with which every other provider is
compared. It serves tests and trials; nothing of it survives the process.
"""

from perdure_memory.provider import MemoryProvider

__all__ = ["MemoryProvider"]
