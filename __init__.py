"""CoGrad3D as a Blender extension: the repository's root is the extension's source folder.

The add-on is imported only when Blender asks for it, so that everything else (tests, `python3 -m backend`) can be used without Blender.
"""


def register() -> None:
    """Called by Blender when the extension is enabled."""
    from . import cograd3d_addon

    cograd3d_addon.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled, and at its exit."""
    from . import cograd3d_addon

    cograd3d_addon.unregister()
