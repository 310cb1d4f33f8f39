"""SDS with Perp-Neg (Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm")."""

from __future__ import annotations

from .sds import ScoreDistillation


class PerpNeg(ScoreDistillation):
    """g = w(t) (e_hat - eps),  e_hat = e_u + s (d_pos + sum_i w_i d_i_perp),  d = e - e_u.

    The paper's perpendicular gradients: the words of the other view directions are negatives, of which only the part counts that
    is perpendicular to the prompt's own direction. `perpendicular.py` has the combination and the weights, which follow the
    azimuth; with `guidance.perp_neg` any other rule uses them as well. Here their factor is 1 (`config.PERP_NEG_OF_RULES`) unless that
    setting gives another one. What is approximated: a camera's prompt is the one with its view word, the paper's blend of two only with
    `guidance.blend_views`. Without view words (`guidance.view_prompts` off) there are no negatives, and this is SDS.
    """
