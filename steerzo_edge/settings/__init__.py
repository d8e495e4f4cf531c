"""Settings: the sections of a profile, and how presets and overrides become one."""
