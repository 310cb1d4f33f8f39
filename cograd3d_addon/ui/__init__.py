"""What the user sees: panels, lists and menus of the sidebar, and the preferences page."""

from __future__ import annotations

from ..registration import parts

# Sub-panels come after their parents.
register, unregister = parts(__package__, ("icons", "menus", "main", "running", "regions", "results", "jobs", "advanced"))
