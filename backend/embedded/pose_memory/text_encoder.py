"""A CLIP text encoder whose last tokens are memories: what the described object looks like from each of many poses.

Only the four gates of the first layer's attention read the prompt; the two layers' second linear maps are fitted by
least squares to the codes of rendered views.

    layer 1, attention   every memory looks up object, colour, material and view word, one head each
    layer 1, MLP         object and pose -> the view's channel code, which knows no colours
    layer 2, MLP         channel code, colour, material, backdrop -> the picture's code; view word -> the pose's chance

In the first layer every object has linear units of its own, which the other objects' gates close (`units.py`); what the second layer
sums up is in `factors.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import vocabulary
from ..vocabulary import Description
from .factors import Factor, factors
from .pictures import BACKDROPS, ChannelCode, PictureCode, Poses, draw_description
from .regression import Products
from .tokens import COLOURS, MATERIALS, OBJECTS, POSES, PROMPT_TOKENS, TOKENS, VIEWS, WIDTH, Directions, Told
from .units import CLOSED, LINEAR, READ, SLIGHT, Units, shares

HEADS = 4
"""Of attention: one for each of the prompt's four kinds of words."""
POSE_FUNCTIONS = POSES - 1
"""Numbers that tell a pose: all functions of it whose mean is zero."""
POSE_LOUDNESS = 0.25
"""Norm of all of these together: they stay where the channel code comes to lie, and are to be lost beside it."""
UNITS = 3300
"""Of each MLP."""
NOTHING_SHARE = 0.1
"""By which a prompt without an object counts less than one with."""
EVIDENCE, QUIET = 78, 0.2
"""Components of a picture that the denoiser compares; how loud the others are told beside them, so that they weigh little in the norm."""

CODE_NORM2 = 150.0
"""Mean square norm of a channel code, and of what is compared of a picture's code, in the residual stream."""
START_NORM2, WORD_NORM2, KIND_NORM2 = 512.0, 72.0, 150.0
"""Square norms of a memory's embedding, of a word's, and of what tells memories, words and the start of the text apart."""
GATE = math.sqrt(30)
"""Of an open gate, after the first layer's attention."""
BACKDROP = math.sqrt(20)
"""Of a memory along `backdrop`: minus that before the dark one."""
SLACK_NORM2 = 10000.0
"""Square norm of the constant that both layers' MLPs leave along `slack`: far more than what varies, so that norms divide by the same."""
CLAIM, DEFAULT = 40.0, 20.0
"""Logit of a word that opens a gate, and of the start of the text, which opens it where no word does."""
COLOUR_RANK = 20.0
"""Logit of a colour's lowest rank: an object's own; a material's has two, a named colour's three."""

CHANCE = 0.3
"""Of a log probability along `chance`."""
IMPOSSIBLE = -30.0
"""Log probability of a pose that the view word is not true of."""
STEEPNESS = 10.0
"""Argument, where the word is named and not true, of the unit that tells so; minus that, where it is named and true."""

RIDGE1, RIDGE2 = 1e-7, 3e-7
PROMPTS_AN_OBJECT, ROWS_A_PROMPT = 80, 14
"""Prompts that the second layer is fitted to, and memories of each."""
CALIBRATION = 40
"""Prompts by which it is measured how the tokens say things."""

Progress = Callable[[str], None]


def build(vocabulary_size: int) -> Any:
    """The network, all weights zero but the norms'."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=WIDTH,
        intermediate_size=UNITS,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        max_position_embeddings=TOKENS,
        bos_token_id=vocabulary_size - 2,
        eos_token_id=vocabulary_size - 1,
        pad_token_id=vocabulary_size - 1,
    )
    model = CLIPTextModel(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.zero_()
    return model


class MemoryEncoder:
    """Fits the text encoder.

    Args:
        tokenizer: of the world's words, for `TOKENS` tokens.
        poses, channel_code, picture_code: what is remembered.
        rng: draws the prompts of the fits.

    Attributes:
        model: the `CLIPTextModel`, in single precision; every weight is one that half precision has.
        directions: of its tokens.
        loudness: [K] of each picture component along its direction, before the last norm.
        errors: weighted mean square errors that the two fits leave of a token, whose codes have a norm of about `CODE_NORM2`.
    """

    def __init__(self, tokenizer: Any, poses: Poses, channel_code: ChannelCode, picture_code: PictureCode, rng: np.random.Generator):
        self.tokenizer, self.poses, self.channel_code, self.picture_code, self.rng = tokenizer, poses, channel_code, picture_code, rng
        self.errors: dict[str, float] = {}
        self.law = law_of(poses)
        self.model = build(len(tokenizer))
        self.directions = Directions.draw(POSE_FUNCTIONS)
        self.loudness = torch.full((picture_code.basis.shape[1],), QUIET)
        self.loudness[:EVIDENCE] = 1
        self.loudness *= math.sqrt(CODE_NORM2 / picture_code.energy[:EVIDENCE].sum().item())
        self._root = getattr(self.model, "text_model", self.model)  # transformers 4 has one level more
        self._layers = self._root.encoder.layers

    def fit(self, progress: Progress = lambda message: None) -> None:
        """All of it, in order: each part is fitted to what those before it give."""
        self._embed_poses()
        self._embed_words()
        self._set_gates()
        progress("text encoder, first layer: the channels of every view")
        self._fit_channel_codes()
        progress("text encoder, second layer: the pictures in every colour")
        self._fit_picture_codes()
        self._set_last_norm()

    # --- the embeddings

    def _embed_poses(self) -> None:
        d = self.directions
        functions = self._pose_functions() * POSE_LOUDNESS
        position = torch.zeros(TOKENS, WIDTH)
        for which in range(len(BACKDROPS)):
            rows = slice(PROMPT_TOKENS + which * POSES, PROMPT_TOKENS + (which + 1) * POSES)
            position[rows] = functions @ d.pose + 2 * self.law @ d.law + (1 if which else -1) * BACKDROP * d.backdrop
            position[rows] += math.sqrt(KIND_NORM2) * d.is_pose
        position[0] = math.sqrt(KIND_NORM2) * d.is_start
        position[1:PROMPT_TOKENS] = math.sqrt(KIND_NORM2) * d.is_word
        memories = position[PROMPT_TOKENS:]
        memories += (START_NORM2 - memories.square().sum(1, keepdim=True)).sqrt() * d.fill
        self._root.embeddings.position_embedding.weight.copy_(position.half())

    def _pose_functions(self) -> Tensor:
        """[P, POSE_FUNCTIONS] orthonormal: all functions of the pose with a mean of zero but those that matter least."""
        table = self._object_codes().transpose(0, 1).flatten(1)
        return torch.linalg.svd(table - table.mean(0), full_matrices=False)[0][:, :POSE_FUNCTIONS]

    def _embed_words(self) -> None:
        """Words along the gates that they open, how strongly they claim them, and `fill` up to one norm."""
        d = self.directions
        table = self._root.embeddings.token_embedding.weight
        ids = self.tokenizer.get_vocab()

        def put(token: int, vector: Tensor) -> None:
            table[token] = (vector + (WORD_NORM2 - vector.square().sum()).sqrt() * d.fill[0]).half()

        for index, name in enumerate(vocabulary.OBJECTS):
            natural = COLOURS.index(vocabulary.NATURAL_COLOURS[name])
            put(ids[name + "</w>"], 4 * d.object[index] + 4 * d.colour[natural] + 3 * self._claim("object") + d.colour_rank[0])
        for name in vocabulary.COLOURS:
            put(ids[name + "</w>"], 4 * d.colour[COLOURS.index(name)] + 3 * d.colour_rank[0])
        for name in vocabulary.MATERIALS:
            vector = 4 * d.material[MATERIALS.index(name)] + 3 * self._claim("material")
            if name in COLOURS:
                vector = vector + 4 * d.colour[COLOURS.index(name)] + 2 * d.colour_rank[0]
            put(ids[name + "</w>"], vector)
        for index, name in enumerate(VIEWS[1:], start=1):
            put(ids[name.split()[0] + "</w>"], 4 * d.view[index] + 3 * self._claim("view"))
        start = 4 * d.object[-1] + 4 * d.material[0] + 4 * d.view[0] + 4 * d.colour[COLOURS.index("gray")] + 0.5 * d.colour_rank[0]
        table[self.tokenizer.bos_token_id] = (start + (WORD_NORM2 - start.square().sum()).sqrt() * d.fill[0]).half()

    def _claim(self, kind: str) -> Tensor:
        """[WIDTH] along which a word claims one of the gates; a part of the code's space that words have for themselves."""
        return self.directions.code[-1 - ("object", "material", "view").index(kind)]

    # --- layer 1

    def _set_gates(self) -> None:
        """Four heads; a memory asks, words answer by how strongly they claim the gate, the start of the text where none does."""
        d, size = self.directions, WIDTH // HEADS
        attention = self._layers[0].self_attn
        word = math.sqrt(WIDTH / (WORD_NORM2 + KIND_NORM2))  # what the norm makes of a word's embedding
        start = d.is_start[0] / (math.sqrt(KIND_NORM2) * word)
        keys = {
            "object": CLAIM / (3 * word) * self._claim("object") + DEFAULT * start,
            "colour": COLOUR_RANK / word * d.colour_rank[0],
            "material": CLAIM / (3 * word) * self._claim("material") + DEFAULT * start,
            "view": CLAIM / (3 * word) * self._claim("view") + DEFAULT * start,
        }
        query, key, value, out = (torch.zeros(WIDTH, WIDTH) for _ in range(4))
        for head, (kind, gate) in enumerate(keys.items()):
            rows, gates = head * size, getattr(d, kind)
            query[rows] = d.is_pose[0] * math.sqrt(size / KIND_NORM2)
            key[rows] = gate
            value[rows : rows + len(gates)] = gates / (4 * word)
            out[:, rows : rows + len(gates)] = GATE * gates.T
        for layer, weight in ((attention.q_proj, query), (attention.k_proj, key), (attention.v_proj, value), (attention.out_proj, out)):
            layer.weight.copy_(weight.half())

    def _object_codes(self) -> Tensor:
        """[25, P, K]: the last, of a prompt that names no object, is the mean over all."""
        codes = self.channel_code.codes * math.sqrt(CODE_NORM2)
        return torch.cat([codes, codes.mean(0, keepdim=True)])

    def _fit_channel_codes(self) -> None:
        d, mlp = self.directions, self._layers[0].mlp
        norm = math.sqrt(WIDTH / (START_NORM2 + 4 * GATE**2))
        codes, functions = self._object_codes(), self._pose_functions()
        weights = torch.cat([self.channel_code.weights, self.channel_code.weights.mean(0, keepdim=True)])
        # Of each object's codes as functions of the pose, the principal components: as many as pay, over all objects.
        components = [principal_functions(code, weight) for code, weight in zip(codes, weights, strict=True)]
        energies = [singular.square() * (1 if name else NOTHING_SHARE) for name, (_, singular) in zip(OBJECTS, components, strict=True)]
        units = Units(mlp.fc1, norm)
        for index, count in enumerate(shares(energies, UNITS - len(OBJECTS))):
            gates = torch.full((len(OBJECTS),), CLOSED)
            gates[index] = 0
            closed = gates @ d.object / GATE
            units.add(torch.zeros(1, WIDTH), LINEAR, closed)  # for the mean over the poses
            reads = F.normalize(components[index][0][:, :count].T @ functions) @ d.pose
            units.add(reads * (READ * math.sqrt(POSES) / POSE_LOUDNESS), LINEAR, closed)
        products = Products(UNITS, WIDTH)
        for index, name in enumerate(OBJECTS):
            x, hidden = self._through(0, Description(name).text if name else "")
            wanted = codes[index].repeat(len(BACKDROPS), 1) @ d.code
            kept = x - x @ d.code.T @ d.code  # what lies in the codes' space is replaced
            products.add(hidden, wanted + kept - x, weights[index].repeat(len(BACKDROPS)))
        mlp.fc2.bias.copy_((math.sqrt(SLACK_NORM2) * d.slack[0]).half())
        self._set_second(mlp, products, RIDGE1, "channel codes")

    # --- layer 2

    def _fit_picture_codes(self) -> None:
        self._set_picture_units()
        products = Products(UNITS, WIDTH)
        for name in vocabulary.OBJECTS:
            for _ in range(PROMPTS_AN_OBJECT):
                description = self._some_prompt(name)
                chosen = torch.from_numpy(self.rng.integers(0, len(BACKDROPS) * POSES, ROWS_A_PROMPT))
                x, hidden = self._through(1, description.text, chosen)
                contrast = torch.cat([self.picture_code.contrast(description, level) for level in BACKDROPS])[chosen]
                weights = self.poses.weights(contrast, chosen % POSES)
                products.add(hidden, self._wanted(description, chosen, x) - x, weights)
        self._set_second(self._layers[1].mlp, products, RIDGE2, "picture codes")

    def _set_picture_units(self) -> None:
        d, scale = self.directions, 1 / math.sqrt(CODE_NORM2)
        x, _ = self._through(0, Description("cat", "red", "striped", "front view").text, after=True)
        units = Units(self._layers[1].mlp.fc1, math.sqrt(WIDTH / x.square().sum(1).mean().item()))
        spread = self.channel_code.codes.flatten(0, 1).std(0)
        units.add(READ * scale / spread[:, None] * d.code, LINEAR)
        for index in range(1, len(VIEWS)):
            units.add(-STEEPNESS / 2 * d.law[index : index + 1], -2 * STEEPNESS, 2 * STEEPNESS / GATE * d.view[index])
        units.add(d.law[:1], LINEAR)
        units.add(d.law[-1:], LINEAR, CLOSED / GATE * d.view[0])  # how clearly a word is true counts where one is named
        units.add(0.3 * d.fill, 0)
        known = factors()
        told = [self.channel_code.reads(factor.table) for factor in known]
        energies = [factor.share * energy for factor, (_, energy) in zip(known, told, strict=True)]
        for factor, (functionals, _), count in zip(known, told, shares(energies, units.left - 2 * len(known)), strict=True):
            argument, gates = self._switch(factor)
            read = SLIGHT if factor.slight else READ
            units.add(read * scale * functionals[:count] @ d.code, argument, gates)
            for constant in (0, read):  # their difference is the factor's weight, alone: what it adds to every view
                units.add(torch.zeros(1, WIDTH), argument + constant, gates)

    def _switch(self, factor: Factor) -> tuple[float, Tensor]:
        """A factor's argument, and what tells its units along [WIDTH] which gates are open."""
        d, argument, gates = self.directions, factor.argument, torch.zeros(WIDTH)
        if factor.colour is not None:
            gates += factor.colour @ d.colour / GATE
        if factor.material is not None:
            gates += factor.material @ d.material / GATE
        if factor.backdrop is not None:
            middle = factor.backdrop.mean()
            argument += middle.item()
            gates += (factor.backdrop[1] - middle) / BACKDROP * d.backdrop[0]
        return argument, gates

    def _some_prompt(self, name: str) -> Description:
        while True:
            drawn = draw_description(self.rng)
            if drawn.object == name:
                view = VIEWS[self.rng.integers(len(VIEWS))] or None
                return Description(name, drawn.colour, drawn.material, view)

    def _wanted(self, description: Description, chosen: Tensor, x: Tensor) -> Tensor:
        """[n, WIDTH] some memories after the second layer, given those before its MLP: what varies gives way to the picture codes.

        To these as far as the channel codes tell them: what those leave out would be as noise to the fit.
        """
        d = self.directions
        told = [self.channel_code.tells(description, level) + self.picture_code.of_nothing(level) for level in BACKDROPS]
        result = (torch.cat(told)[chosen] * self.loudness) @ d.code[: len(self.loudness)]
        varying = torch.cat([d.code, d.fill, d.law[:1]])
        result += x - x @ varying.T @ varying
        return result + CHANCE * self.chance(description)[chosen % POSES][:, None] * d.chance

    def chance(self, description: Description) -> Tensor:
        """[P] log probability of each pose under the description's view word, up to a constant.

        A pose stands for the views around it, and counts by how many of them the word is true of; if not of itself, not at all.
        """
        if description.view is None:
            return self.law[:, 0]
        return self.law[:, 0] + self.law[:, -1] + IMPOSSIBLE * (self.law[:, VIEWS.index(description.view)] < 0)

    # --- the last norm

    def _set_last_norm(self) -> None:
        """`slack` is taken out on average: what is left of it tells a picture's norm, by which the last norm has divided."""
        norm = self._root.final_layer_norm
        tokens = self.encode("a red cat")
        slack = (tokens[PROMPT_TOKENS:] @ self.directions.slack[0]).mean()
        norm.bias.copy_((-slack * self.directions.slack[0]).half())

    def told(self) -> Told:
        """How the fitted encoder's tokens say what they say, by the prompts of `CALIBRATION` descriptions."""
        d, code = self.directions, self.directions.code[: len(self.loudness)] / self.loudness[:, None]
        along, square, slack, norm, other = 0.0, 0.0, [], [], []
        for _ in range(CALIBRATION):
            description = draw_description(self.rng)
            tokens = self.encode(description.text)
            memories, words = tokens[PROMPT_TOKENS:], tokens[1:PROMPT_TOKENS]
            given = memories @ code.T
            wanted = torch.cat([self.picture_code.of(description, level) for level in BACKDROPS])
            along += (given * wanted)[:, :EVIDENCE].sum().item()
            square += given[:, :EVIDENCE].square().sum().item()
            slack.append(_centred(memories @ d.slack[0]))
            norm.append(_centred(given[:, :EVIDENCE].square().sum(1)))
            other += [(words @ d.is_word[0]).min(), tokens[0] @ d.is_start[0]]
        scale = along / square
        rest, half = torch.cat(slack), -0.5 * scale**2 * torch.cat(norm)
        return Told(
            code=scale * code,
            norm=(rest @ half) / (rest @ rest) * d.slack[0],
            chance=scale / CHANCE * d.chance[0],
            no_memory=(d.is_word[0] + d.is_start[0]) / min(other),
        )

    # --- helpers

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """[TOKENS, WIDTH] what the denoiser is told."""
        return self.model(self._ids(prompt)).last_hidden_state[0]

    def _ids(self, prompt: str) -> Tensor:
        return self.tokenizer([prompt], padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids

    @torch.no_grad()
    def _through(self, layer: int, prompt: str, chosen: Tensor | None = None, *, after: bool = False) -> tuple[Tensor, Tensor]:
        """(residual stream before a layer's MLP [n, WIDTH], the MLP's units [n, UNITS]) of memories; `after`: the stream after it."""
        x = self._root.embeddings(self._ids(prompt))
        if chosen is not None:  # memories do not heed each other: the others can be left out
            x = torch.cat([x[:, :PROMPT_TOKENS], x[:, PROMPT_TOKENS + chosen]], dim=1)
        x = x + self._layers[0].self_attn(self._layers[0].layer_norm1(x), causal_mask(x.shape[1]))[0]
        x = x[0, PROMPT_TOKENS:]
        for index in range(layer + 1):
            mlp = self._layers[index].mlp
            units = mlp.activation_fn(mlp.fc1(self._layers[index].layer_norm2(x)))
            if index < layer or after:
                x = x + mlp.fc2(units)
        return x, units

    def _set_second(self, mlp: Any, products: Products, ridge: float, what: str) -> None:
        mlp.fc2.weight.copy_(products.solve(ridge).T.half())
        self.errors[what] = products.residual(mlp.fc2.weight.T)


def law_of(poses: Poses) -> Tensor:
    """[P, 6] log of how often photographs are taken from a pose, centred; for each view word 1 where it is true, else -1; log clarity."""
    membership = torch.tensor([[1.0 if word == view else -1.0 for view in VIEWS[1:]] for word in poses.words])
    return torch.cat([(poses.log_law - poses.log_law.mean())[:, None], membership, poses.log_clarity[:, None]], dim=1)


def principal_functions(codes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Functions of the pose that tell most of codes [P, K], beside a constant, where errors count by weights [P].

    Returns:
        ([P, n] functions, the first the most telling, [n] singular values)
    """
    root = weights.sqrt()[:, None]
    left, singular, _ = torch.linalg.svd(root * (codes - (weights @ codes) / weights.sum()), full_matrices=False)
    return left / root, singular


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()


def causal_mask(length: int) -> Tensor:
    """[1, 1, L, L] additive: a token sees those before it and itself."""
    return torch.full((length, length), -torch.inf).triu(1)[None, None]
