"""What Blender shows of CoGrad3D: the only package of the project that imports bpy.

`session` holds the running jobs; `properties` what the user chose, `later_files` what of that is not known here; `operators` what the user
can do; `ui` the panels; `viewport` the region gizmos; `importing` brings results into the scene. Modules that need no bpy (`jobs`,
`viewport/frustums.py`, ...) say so in their first line.
"""

from __future__ import annotations

from .registration import parts

register, unregister = parts(
    __package__, ("preferences", "properties", "later_files", "session", "operators", "ui", "viewport", "importing")
)
