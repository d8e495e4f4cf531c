"""The zeroth-order engine: directions, strategies, oracles, rules, and the journal that makes them replayable."""
