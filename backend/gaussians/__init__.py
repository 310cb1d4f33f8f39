"""The 3D representation: Gaussians, how they begin, how they are drawn and how their number follows the need."""
