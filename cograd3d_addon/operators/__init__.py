"""What the user can do: thin operators on top of `session`, `settings` and the backend."""

from __future__ import annotations

from ..registration import parts

register, unregister = parts(
    __package__,
    (
        "environment",
        "folders",
        "generate",
        "models",
        "control",
        "jobs",
        "presets",
        "regions_steer",
        "regions_look",
        "regions_select",
        "results",
    ),
)
