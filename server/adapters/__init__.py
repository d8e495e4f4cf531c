"""Adapters of a server: of jobs and uploaded, under names, kept on the disk and as far as it goes in memory."""
