"""CoGrad3D's backend: everything that runs outside Blender. Nothing here imports bpy."""

__version__ = "0.3.0"
