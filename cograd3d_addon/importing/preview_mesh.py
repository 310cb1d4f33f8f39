"""The preview's mesh and materials, made once and changed in place."""

from __future__ import annotations

import bpy
import numpy as np

from ...backend.colours import srgb_to_linear
from .datablocks import fill_triangles
from .gaussian_mesh import CORNERS, FACES, PALETTE, GaussianMesh, triangles

COLOUR = "Colour"
"""Name of the attribute that holds the Gaussians' colours."""

NORMAL = "custom_normal"
"""Name of the attribute from which Blender takes a mesh's normals; since 4.5 they may be any vectors."""

_SMALLEST = 2048
"""Gaussians that the mesh is made for at least; then twice as many, and twice as many again."""


def fill(mesh: bpy.types.Mesh, gaussians: GaussianMesh) -> None:
    """Show these Gaussians. Vertices and faces are made for more than there are, so that mostly numbers change only: densification changes
    how many there are again and again, and new edges cost more than everything else here.

    Args:
        mesh: the preview's, not in edit mode, with `PALETTE` materials.
        gaussians: any number.
    """
    capacity = max(_SMALLEST, 1 << max(len(gaussians) - 1, 0).bit_length())
    vertices = np.zeros((CORNERS * capacity, 3), dtype=np.float32)  # those that are too many lie in one point and are not seen
    vertices[: len(gaussians.vertices)] = gaussians.vertices
    if len(mesh.vertices) != len(vertices):
        mesh.clear_geometry()
        fill_triangles(mesh, vertices, triangles(capacity))
        mesh.shade_smooth()
    else:
        _layer(mesh, "position", "FLOAT_VECTOR", "POINT").foreach_set("vector", vertices.reshape(-1))
    if hasattr(bpy.types, "GeometryNodeSetMeshNormal"):  # normals of one's own that cost nothing; without them each octahedron is a ball
        normals = np.zeros((capacity, CORNERS, 3), dtype=np.float32)
        normals[: len(gaussians)] = gaussians.normals[:, None]
        _layer(mesh, NORMAL, "FLOAT_VECTOR", "POINT").foreach_set("vector", normals.reshape(-1))
    colours = np.ones((capacity, CORNERS, 4), dtype=np.float32)
    colours[: len(gaussians), :, :3] = srgb_to_linear(gaussians.colours)[:, None]
    _layer(mesh, COLOUR, "FLOAT_COLOR", "POINT").foreach_set("color", colours.reshape(-1))
    indices = np.zeros((capacity, FACES), dtype=np.int32)
    indices[: len(gaussians)] = gaussians.nearest[:, None]
    _layer(mesh, "material_index", "INT", "FACE").foreach_set("value", indices.reshape(-1))
    for material, colour in zip(mesh.materials, srgb_to_linear(gaussians.palette).tolist()):
        material.diffuse_color = (*colour, 1.0)
    mesh.update()


def _layer(mesh: bpy.types.Mesh, name: str, kind: str, domain: str) -> bpy.types.bpy_prop_collection:
    """The values of an attribute, which is made if it is not there."""
    return (mesh.attributes.get(name) or mesh.attributes.new(name, kind, domain)).data


def make_materials(name: str) -> list[bpy.types.Material]:
    """The palette. All show the mesh's colours without light, which the optimisation's pictures hold already; Solid mode, which knows one
    colour a material, shows each in its own.
    """
    materials = []
    for _ in range(PALETTE):
        material = bpy.data.materials.new(name)
        if material.node_tree is None:  # from 5.0 on a material always has nodes
            material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.clear()
        output, shader, colour = (nodes.new(f"ShaderNode{kind}") for kind in ("OutputMaterial", "Emission", "Attribute"))
        colour.attribute_name = COLOUR
        links.new(colour.outputs["Color"], shader.inputs["Color"])
        links.new(shader.outputs["Emission"], output.inputs["Surface"])
        materials.append(material)
    return materials
