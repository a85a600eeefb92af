"""How one step of a fit runs: its objective and optimizer, eager, compiled, captured, or by several processes."""
