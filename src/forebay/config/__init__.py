"""All settings, and where their values come from.

kinds     what a setting accepts: type, unit, range
setting   one setting and its names: flag, environment variable, TOML key
settings  the table: each setting is declared there, once
checks    rules between settings
loading   flags, environment and TOML file put together
"""

from forebay.config.loading import (
    CONFIG_ENV,
    CONFIG_FILE,
    CONFIG_FLAG,
    Loaded,
    Source,
    load,
)
from forebay.config.setting import ENV_PREFIX, Setting
from forebay.config.settings import (
    Settings,
    changes_needing_restart,
    describe,
    only_live_changes,
    parse_settings,
)

__all__ = [
    "CONFIG_ENV",
    "CONFIG_FILE",
    "CONFIG_FLAG",
    "ENV_PREFIX",
    "Loaded",
    "Setting",
    "Settings",
    "Source",
    "changes_needing_restart",
    "describe",
    "load",
    "only_live_changes",
    "parse_settings",
]
