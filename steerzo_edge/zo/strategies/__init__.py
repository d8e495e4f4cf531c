"""The methods: one file each, with the strategy as the paper has it and its settings."""
