"""Whose grid is shown when several could be. No bpy."""

from __future__ import annotations


class Focus:
    """Decides between the job chosen in the list and the active object: whichever was chosen last is shown.

    As long as one of them is all there is, it is shown.
    """

    def __init__(self) -> None:
        self._job = ""
        self._object = ""
        self._prefers_object = False

    def shows_object(self, job: str, object_key: str) -> bool:
        """Whether the object's grid is to be shown rather than the job's; "" stands for none."""
        if object_key != self._object:
            self._prefers_object = bool(object_key)
        elif job != self._job:
            self._prefers_object = False
        self._job, self._object = job, object_key
        return bool(object_key) and (self._prefers_object or not job)
