"""The shader of the glyphs' areas: what stands in the way fades, decided on the GPU, so that turning the view rebuilds nothing."""

from __future__ import annotations

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from .glyphs import Filled
from .picking import NEAR

OVER_ASSET = 0.12
"""What remains of the areas of a glyph between the viewer and the asset; its lines stay."""

_VERTEX = f"""
void main()
{{
  gl_Position = ModelViewProjectionMatrix * vec4(pos, 1.0);
  float half_height = anchor.w, off, reach = half_height, near = 1.0;
  bool in_front;
  if (eye.w > 0.5) {{
    vec3 to_glyph = anchor.xyz - eye.xyz, to_asset = asset.xyz - eye.xyz;
    float share = dot(to_glyph, to_asset) / dot(to_asset, to_asset);
    in_front = share > 0.0 && share < 1.0;
    share = max(share, 0.001);
    off = length(to_glyph / share - to_asset);  /* where the glyph is seen, at the distance of the asset */
    reach = half_height / share;
    near = smoothstep({NEAR:.1f} * half_height, {1.5 * NEAR:.1f} * half_height, length(to_glyph));
  }}
  else {{  /* orthographic: the eye is a direction */
    vec3 relative = anchor.xyz - asset.xyz;
    float depth = dot(relative, eye.xyz);
    in_front = depth < 0.0;
    off = length(relative - depth * eye.xyz);
  }}
  float covers = in_front ? 1.0 - smoothstep(asset.w, asset.w + reach, off) : 0.0;
  tint = vec4(color.rgb, color.a * near * mix(1.0, {OVER_ASSET}, covers));
}}
"""

_FRAGMENT = """
void main()
{
  if (tint.a < 0.004) {
    discard;
  }
  vec3 low = tint.rgb / 12.92, high = pow((tint.rgb + 0.055) / 1.055, vec3(2.4));
  FragColor = vec4(srgbTarget ? mix(low, high, greaterThan(tint.rgb, vec3(0.04045))) : tint.rgb, tint.a);
}
"""


class AreaShader:
    """Made at its first use, because there is no GPU in background mode."""

    def __init__(self) -> None:
        self._shader: gpu.types.GPUShader | None = None

    @property
    def shader(self) -> gpu.types.GPUShader:
        if self._shader is None:
            info, passed = gpu.types.GPUShaderCreateInfo(), gpu.types.GPUStageInterfaceInfo("cograd3d_areas")
            passed.flat("VEC4", "tint")
            info.push_constant("MAT4", "ModelViewProjectionMatrix")
            info.push_constant("VEC4", "eye")
            info.push_constant("VEC4", "asset")
            info.push_constant("BOOL", "srgbTarget")  # set by Blender when the shader is bound: whether the target encodes by itself
            for place, (kind, name) in enumerate((("VEC3", "pos"), ("VEC4", "color"), ("VEC4", "anchor"))):
                info.vertex_in(place, kind, name)
            info.vertex_out(passed)
            info.fragment_out(0, "VEC4", "FragColor")
            info.vertex_source(_VERTEX)
            info.fragment_source(_FRAGMENT)
            self._shader = gpu.shader.create_from_info(info)
        return self._shader

    def batch(self, part: Filled) -> gpu.types.GPUBatch:
        """Triangles on the GPU."""
        return batch_for_shader(self.shader, "TRIS", {"pos": part.vertices, "color": part.colours, "anchor": part.anchors})

    def draw(self, batch: gpu.types.GPUBatch, context: bpy.types.Context, centre: np.ndarray, radius: float) -> None:
        """Draw triangles; those between the viewer and the asset, a ball around `centre`, faintly."""
        view = context.region_data
        camera = np.array(view.view_matrix.inverted())
        eye = (*camera[:3, 3], 1.0) if view.is_perspective else (*-camera[:3, 2], 0.0)
        self.shader.bind()
        self.shader.uniform_float("ModelViewProjectionMatrix", view.perspective_matrix)
        self.shader.uniform_float("eye", eye)
        self.shader.uniform_float("asset", (*centre, radius))
        batch.draw(self.shader)
