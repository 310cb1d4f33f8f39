"""Every setting of a run, typed, with its default, its range and one line of help.

Standard library only, so that the command line, the worker and the Blender panel share it. `settings.py` reads,
overrides and checks these; docs/method.md gives the reasons for the method's defaults. Timesteps are fractions of the prior's T,
angles degrees, lengths units of the asset, which fits the unit ball.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

Schedule = float | tuple[tuple[float, float], ...]
"""A number, or (progress, value) points between which it runs linearly over the run; before the first and after the last it stands still.

Two points at one progress are a jump, from which on the second holds."""


def value_at(schedule: Schedule, progress: float) -> float:
    """The schedule's value at a progress in 0..1."""
    if not isinstance(schedule, tuple):
        return float(schedule)
    begun = [point for point in schedule if point[0] <= progress]
    if len(begun) == len(schedule):
        return schedule[-1][1]
    if not begun:
        return schedule[0][1]
    (before, low), (after, high) = begun[-1], schedule[len(begun)]
    return low + (high - low) * (progress - before) / (after - before)


def extremes(schedule: Schedule) -> tuple[float, float]:
    """(smallest, largest) value of a schedule."""
    values = [point[1] for point in schedule] if isinstance(schedule, tuple) else [float(schedule)]
    return min(values), max(values)


RULES = {
    "sds": "score distillation: the prediction less the true noise (DreamFusion)",
    "perp_neg": "sds, with the words of the other views as perpendicular negatives (Perp-Neg)",
    "asd": "the guided prediction less that of the prompt alone at a somewhat higher noise level (ScaleDreamer)",
    "cds": "two noise levels along one deterministic path from one fixed noise (Consistent3D)",
    "ism": "two noise levels along a deterministic inversion of the render (LucidDreamer)",
    "hifa": "pulled to the image that some denoising steps make of the render (HiFA)",
    "vsd": "the prediction less that of a network which learns the renders' own score (ProlificDreamer)",
    "csd": "the difference that the prompt makes, alone (classifier score distillation)",
}
"""The choices of `guidance.rule`, one line each."""

PERP_NEG_OF_RULES = {"perp_neg": 1.0}
"""The weight of Perp-Neg's negatives that belongs to a rule; 0 to those that are not named."""


DEFAULT_PRIOR = "builtin:learned"
"""The image model of whoever names none; in requests also called builtin."""

EXACT_PRIOR = ("builtin:exact", "builtin")
"""The exact prior's name, and what it is called in the settings of runs from when it was the default."""

NO_SMALL_VAE = "none"
"""The value of `prior.small_vae` that names none."""


def setting(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = (), infinite: bool = False
) -> Any:
    """A dataclass field with its help line, its inclusive range or choices, and whether it may be infinite in `metadata`."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices, "infinite": infinite})


@dataclass(kw_only=True)
class PriorConfig:
    """The frozen text-to-image diffusion model."""

    name: str = setting(DEFAULT_PRIOR, "builtin:learned (or builtin), builtin:exact, a pipeline folder, a .safetensors file or a hub id")
    reliability: float = setting(1.0, "built-in exact prior only: share of calls in which the view words are obeyed", low=0, high=1)
    views: int = setting(2000, "built-in exact prior only: pictures of an object that it knows", low=50, high=20_000)
    allow_download: bool = setting(False, "fetch a hub id that is not on this machine yet (several GB)")
    dtype: str = setting(
        "auto",
        "arithmetic of the denoiser; auto: what the model asks for, else half precision where the device is made for it",
        choices=("auto", "float32", "float16", "bfloat16"),
    )
    memory: str = setting(
        "auto",
        "how much memory the model may use: high is fastest, low does one thing at a time, auto fits what is free (docs/priors.md)",
        choices=("auto", "low", "normal", "high"),
    )
    small_vae: str = setting(
        NO_SMALL_VAE,
        "a distilled image encoder for the early steps: none, a folder of a diffusers AutoencoderTiny, or a hub id on this machine",
    )
    small_vae_until: float = setting(0.5, "progress at which the model's own image encoder takes over from the small one", low=0, high=1)
    compile: bool = setting(False, "compile the denoiser: minutes at the start, faster steps afterwards where the machine can")


@dataclass(kw_only=True)
class GuidanceConfig:
    """What is made of the prior's answer. None means: as the prior recommends, or as the rule has it."""

    rule: str = setting(
        "sds",
        f"the distillation rule: {', '.join(RULES)} (docs/methods.md)",
        choices=tuple(RULES),
    )
    scale: float | None = setting(None, "classifier-free guidance s in e_u + s (e_c - e_u)", low=0, high=200)
    nominal_scale: Schedule | None = setting(
        None,
        "s as published for Stable Diffusion, of which a prior that recommends less takes its share; scale overrides it",
        low=0,
        high=200,
    )
    least_scale: float = setting(
        0.0, "a prior's share of nominal_scale is at least this: rules that compare two predictions need some guidance", low=0, high=200
    )
    weighting: str = setting(
        "auto",
        "w(t): sds = 1 - abar, x0 = sqrt((1 - abar) / abar), uniform = 1, flow = 1 + x0",
        choices=("auto", "sds", "x0", "uniform", "flow"),
    )
    clamp: Schedule | None = setting(None, "elementwise bound on the gradient, 0 for none", low=0)
    view_prompts: bool = setting(True, "append front / side / back / overhead view to the prompt")
    blend_views: bool = setting(False, "between two view words, blend their embeddings instead of choosing the nearer")
    perp_neg: Schedule | None = setting(
        None,
        "weight of the other views' words as perpendicular negatives (Perp-Neg), 0 for none; auto: 1 with the rule perp_neg, else 0",
        low=0,
        high=4,
    )
    asd_shift: float = setting(0.1, "asd: the second noise level lies higher by up to this share of t - t_low", low=0, high=1)
    cds_gap: tuple[float, float] = setting((0.1, 0.3), "cds: the first noise level lies higher by a share of T drawn between these")
    ism_step: Schedule = setting(
        ((0.0, 0.1), (0.3, 0.08)), "ism: interval d between the two noise levels, a share of T", low=0.001, high=0.5
    )
    ism_stride: float = setting(0.2, "ism: stride of the inversion, a share of T", low=0.01, high=1)
    hifa_steps: int = setting(4, "hifa: denoising steps to the target, at most", low=1, high=50)
    hifa_image_weight: float = setting(0.1, "hifa: weight of the residual between images, relative to the one on z", low=0, high=10)
    vsd_rate: float = setting(1e-3, "vsd: learning rate of the network that learns the renders' own score", low=0, high=1)


@dataclass(kw_only=True)
class GridConfig:
    """Section 3.2: the view space, quantised."""

    azimuth_bins: int = setting(12, "cells around; the first is centred on the front", low=3, high=72)
    elevation_edges: tuple[float, ...] = setting((-10.0, 10.0, 30.0, 60.0), "edges of the elevation bands, ascending")
    distance_edges: tuple[float, ...] = setting((), "edges of the distance shells; empty: one shell, as the prior recommends")
    fov: float | None = setting(None, "vertical field of view; None: as the prior recommends", low=5, high=120)
    cameras: str = setting(
        "region",
        "views: in the regions drawn for them, independent over the whole grid (uniform), or evenly around from one region on (orbit)",
        choices=("region", "uniform", "orbit"),
    )


@dataclass(kw_only=True)
class RegionSamplingConfig:
    """Section 3.2, eqs. 6 and 7."""

    enabled: bool = setting(True, "off: regions are drawn uniformly")
    indicator: str = setting(
        "ratio",
        "convergence indicator r: ratio (eq. 6 over a window), literal (eq. 6), level",
        choices=("ratio", "literal", "level"),
    )
    window: int = setting(10, "length of the moving average of a region's loss, in visits", low=2)
    temperature: float | None = setting(None, "tau of eq. 7; None: 0.1 for ratio and literal, 0.5 for level", low=1e-3)
    uniform_floor: float = setting(0.15, "share of the probability that is spread uniformly", low=0, high=1)
    warmup_passes: int = setting(2, "round-robin passes over all regions before eq. 7 is used", low=0)
    loss_bins: int = setting(20, "timestep bins of the running mean that normalises the loss; 0: raw losses", low=0)
    weights: tuple[tuple[int, float], ...] = setting((), "factors of some regions at the start: pairs (region, factor)")


@dataclass(kw_only=True)
class TimestepConfig:
    """Section 3.3, eq. 8."""

    enabled: bool = setting(True, "off: t is uniform in [clip_low, clip_high]")
    mode: str = setting(
        "hybrid",
        "hybrid (eq. 8), annealed (its global part alone), sqrt (falling as HiFA's), dreamtime, or uniform in [clip_low, clip_high]",
        choices=("hybrid", "annealed", "sqrt", "dreamtime", "uniform"),
    )
    start: float | None = setting(None, "t_global at the first iteration; None: as the prior recommends", low=0, high=1)
    end: float | None = setting(None, "t_global at the last iteration; None: as the prior recommends", low=0, high=1)
    clip_low: Schedule = setting(0.02, "lowest t", low=0, high=1)
    clip_high: Schedule = setting(0.98, "highest t", low=0, high=1)
    jitter: float = setting(0.05, "half-width of the uniform interval around t_base", low=0, high=0.5)
    max_update: float = setting(0.05, "bound on u in eq. 8", low=0, high=0.5)
    gains: tuple[float, float, float] = setting(
        (0.25, 0.1, 0.5), "f_u: gains of the loss's first and second difference and of its deviation from the EMA, in units of max_update"
    )
    loss_ema: float = setting(0.9, "EMA factor of a region's loss", low=0, high=1)
    momentum: float = setting(0.9, "m in eq. 8", low=0, high=1)
    neighbourhood: str = setting(
        "deviation", "deviation: t_local minus the neighbours' mean; consensus: plus the mean", choices=("deviation", "consensus")
    )
    local_weight: float = setting(0.5, "C_local", low=0, high=4)
    adjustment_cap: float = setting(0.15, "bound on the whole local adjustment", low=0, high=1)


@dataclass(kw_only=True)
class FusionConfig:
    """Section 3.4, eq. 10."""

    enabled: bool = setting(True, "off: the main gradient alone")
    projection: str = setting(
        "group", "inner products per parameter group, or one over all parameters (literal)", choices=("group", "global")
    )
    time_window: float = setting(0.1, "a neighbour's gradient counts if its t is at most this far", low=0, high=1)
    angle_scale: float = setting(30.0, "sigma of the weight's Gaussian in the angle between regions", low=1)
    time_scale: float = setting(0.05, "decay length of the weight in t", low=1e-4)
    age_scale: float = setting(4.0, "decay length of the weight in passes over the grid", low=0.01)
    cap: float = setting(0.5, "bound on the auxiliary sum, relative to the main gradient; inf = literal", low=0, infinite=True)
    start: float = setting(0.1, "progress at which fusion begins", low=0, high=1)
    stop: float = setting(0.7, "progress at which fusion ends, for details are each view's own; 1 = literal", low=0, high=1)
    storage: str = setting("float16", "how history is kept", choices=("float16", "bfloat16", "float32"))
    history_device: str = setting("auto", "where history is kept", choices=("auto", "cpu"))
    memory_limit_gib: float = setting(4.0, "refuse to keep more history than this", low=0.01)


@dataclass(kw_only=True)
class GaussiansConfig:
    """The initial Gaussians."""

    initial: str = setting("blob", "blob, sphere, or a file: mesh (.obj .ply .glb .stl) or point cloud (.ply .xyz)")
    count: int = setting(4000, "Gaussians at the start", low=1)
    grow: float = setting(
        0.0, "of these, how many are grown around each of the others, with perturbed colours (GaussianDreamer)", low=0, high=100
    )
    radius: float = setting(0.6, "radius of the blob or sphere", low=0.01, high=1)
    opacity: float = setting(0.1, "initial opacity", low=0.001, high=0.999)
    colour_noise: float = setting(0.05, "standard deviation of the initial colours around grey", low=0, high=1)
    sh_degree: int = setting(0, "degree of the view-dependent colour", low=0, high=3)
    min_scale: float = setting(0.004, "smallest standard deviation of a Gaussian", low=0)
    max_scale: float = setting(0.15, "largest standard deviation of a Gaussian", low=0)
    bound: float = setting(1.0, "radius of the ball that no Gaussian's centre leaves", low=0.1)


@dataclass(kw_only=True)
class DensificationConfig:
    """gsplat's strategy operations under a cap."""

    enabled: bool = setting(True, "duplicate, split and prune")
    start: float = setting(0.15, "progress at which it begins", low=0, high=1)
    stop: float = setting(0.7, "progress at which growing ends", low=0, high=1)
    every: int = setting(100, "iterations between two refinements", low=1)
    grow_gradient: float = setting(0.0002, "screen-space gradient (normalised image units) above which a Gaussian grows", low=0)
    split_scale: float = setting(0.03, "a growing Gaussian larger than this is split, else duplicated", low=0)
    prune_opacity: float = setting(0.01, "less opaque Gaussians are removed", low=0, high=1)
    reset_every: float = setting(0.0, "share of the run between two opacity resets, 0: never", low=0, high=1)
    max_count: int = setting(8_000, "hard cap on the number of Gaussians", low=1)


@dataclass(kw_only=True)
class OptimizerConfig:
    """The loop's length, batch and learning rates (Adam)."""

    iterations: int = setting(1000, "optimisation steps", low=1)
    views: int = setting(4, "cameras of a step", low=1, high=64)
    views_per_region: int = setting(1, "of these, how many share a region, and with it a timestep and a gradient to fuse", low=1, high=64)
    resolution_steps: tuple[tuple[float, int], ...] = setting(
        (), "pairs (progress, pixels) of the render size; empty: the prior's size throughout"
    )
    lr_means: float = setting(4e-3, "learning rate of the positions", low=0)
    lr_scales: float = setting(1e-2, "learning rate of the log scales", low=0)
    lr_quats: float = setting(5e-3, "learning rate of the rotations", low=0)
    lr_opacities: float = setting(1e-1, "learning rate of the opacity logits", low=0)
    lr_sh0: float = setting(2e-2, "learning rate of the base colours", low=0)
    lr_shN: float = setting(1e-3, "learning rate of the view-dependent colours", low=0)
    lr_end: float = setting(0.1, "the positions' rate falls exponentially to this share", low=0, high=1)
    betas: tuple[float, float] = setting((0.9, 0.99), "Adam's decay rates")
    sparsity: float = setting(0.02, "weight of the coverage at the start, against fog that a prior takes for the background", low=0)
    sparsity_end: float = setting(0.6, "progress at which that weight, falling linearly, reaches zero", low=0.01, high=1)
    opacity_entropy: float | None = setting(
        None, "weight of the regulariser alpha (1 - alpha), against translucency; None: as the prior recommends", low=0
    )
    flatness: float = setting(0.0, "weight of each Gaussian's smallest width over its middle one: flat ones make surfaces", low=0)
    depth_distortion: float = setting(0.0, "weight of the spread of what a pixel sees along its ray, against layers and floaters", low=0)
    normal_consistency: float = setting(0.0, "weight of the angle between flat Gaussians and the surface that their depths make", low=0)


@dataclass(kw_only=True)
class SurfaceConfig:
    """Gaussians to a mesh."""

    resolution: int = setting(128, "voxels along an edge of the grid", low=16, high=512)
    views: int = setting(60, "silhouettes and depth maps that are fused", low=6)
    image_size: int = setting(256, "their pixels along an edge", low=32, high=2048)
    faces: int = setting(20_000, "face budget", low=100, high=2_000_000)
    smoothing: int = setting(8, "Taubin smoothing steps", low=0, high=200)


@dataclass(kw_only=True)
class TextureConfig:
    """The base-colour texture."""

    size: int = setting(1024, "pixels along an edge", low=64, high=8192)
    views: int = setting(48, "renders that are projected onto the mesh", low=6)
    image_size: int = setting(256, "their pixels along an edge", low=32, high=2048)
    refine: int = setting(16, "steps of fitting the texture to the Gaussians' renders, 0: none", low=0)


@dataclass(kw_only=True)
class RunConfig:
    """Seed, devices and what is written while running."""

    seed: int = setting(0, "seed of everything random", low=0, high=2**63 - 1)
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    rasterizer: str = setting("auto", "implementation of the rasteriser", choices=("auto", "gsplat", "numba", "torch"))
    checkpoint_every: int = setting(100, "iterations between checkpoints", low=1)
    preview_every: int = setting(50, "iterations between previews, 0: none", low=0)


@dataclass(kw_only=True)
class GenerationConfig:
    """All settings of one run; `config.json` of a job folder is this, with nothing left to default."""

    prior: PriorConfig = field(default_factory=PriorConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    region_sampling: RegionSamplingConfig = field(default_factory=RegionSamplingConfig)
    timestep_sampling: TimestepConfig = field(default_factory=TimestepConfig)
    gradient_fusion: FusionConfig = field(default_factory=FusionConfig)
    gaussians: GaussiansConfig = field(default_factory=GaussiansConfig)
    densification: DensificationConfig = field(default_factory=DensificationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    surface: SurfaceConfig = field(default_factory=SurfaceConfig)
    texture: TextureConfig = field(default_factory=TextureConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @classmethod
    def sections(cls) -> tuple[str, ...]:
        """Names of the sections, in order."""
        return tuple(f.name for f in fields(cls))
