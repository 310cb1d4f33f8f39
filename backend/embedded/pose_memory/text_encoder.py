"""A CLIP text encoder whose last tokens are memories: what the described object looks like from each of many poses.

Only the four gates of the first layer's attention read the prompt; the two layers' second linear maps are fitted by
least squares to the codes of rendered views.

    layer 1, attention   every memory looks up object, colour, material and view word, one head each
    layer 1, MLP         object and pose -> the view's channel code, which knows no colours
    layer 2, MLP         channel code, colour, material, backdrop -> the picture's code; view word -> the pose's chance

A unit of an MLP is switched by a gate: quick_gelu(x + 5) where the gate is open, quick_gelu(x - 14), which is nothing, where
it is not. What it passes on is nearly linear in x, so each gate selects a linear map of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import vocabulary
from ..vocabulary import Description
from .pictures import BACKDROPS, ChannelCode, PictureCode, Poses, draw_description
from .regression import Products
from .tokens import COLOURS, MATERIALS, OBJECTS, POSES, PROMPT_TOKENS, TOKENS, VIEWS, WIDTH, Directions, Told

HEADS = 4
"""Of attention: one for each of the prompt's four kinds of words."""
POSE_FUNCTIONS = 200
"""Numbers that tell a pose: what all objects' channel codes have most in common as functions of it."""
UNITS = len(OBJECTS) * POSE_FUNCTIONS
"""Of each MLP."""
EVIDENCE, QUIET = 78, 0.2
"""Components of a picture that the denoiser compares; how loud the others are told beside them, so that they weigh little in the norm."""

CODE_NORM2 = 150.0
"""Mean square norm of a channel code, and of what is compared of a picture's code, in the residual stream."""
START_NORM2, WORD_NORM2, KIND_NORM2 = 512.0, 72.0, 150.0
"""Square norms of a memory's embedding, of a word's, and of what tells memories, words and the start of the text apart."""
GATE = math.sqrt(30)
"""Of an open gate, after the first layer's attention."""
ON, OFF, LINEAR = 19.0, -14.0, 5.0
"""What an open gate adds to a unit's argument, its bias, and what is left of both: there quick_gelu is nearly linear."""
SLACK_NORM2 = 3000.0
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
PROMPTS_AN_OBJECT, ROWS_A_PROMPT = 220, 14
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
        errors: mean square errors that the two fits leave of a token, whose codes have a norm of about `CODE_NORM2`.
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
        codes = self._object_codes()  # [25, P, K]
        table = codes.transpose(0, 1).flatten(1)
        functions, _, _ = torch.linalg.svd(table - table.mean(0), full_matrices=False)
        functions = functions[:, :POSE_FUNCTIONS]
        functions *= math.sqrt(CODE_NORM2 / functions.square().sum(1).max())
        position = torch.zeros(TOKENS, WIDTH)
        for which in range(len(BACKDROPS)):
            rows = slice(PROMPT_TOKENS + which * POSES, PROMPT_TOKENS + (which + 1) * POSES)
            position[rows] = functions @ d.pose + 2 * self.law @ d.law + (1 if which else -1) * math.sqrt(20) * d.backdrop
            position[rows] += math.sqrt(KIND_NORM2) * d.is_pose
        position[0] = math.sqrt(KIND_NORM2) * d.is_start
        position[1:PROMPT_TOKENS] = math.sqrt(KIND_NORM2) * d.is_word
        memories = position[PROMPT_TOKENS:]
        memories += (START_NORM2 - memories.square().sum(1, keepdim=True)).sqrt() * d.fill
        self._root.embeddings.position_embedding.weight.copy_(position.half())

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
        position = self._root.embeddings.position_embedding.weight[PROMPT_TOKENS : PROMPT_TOKENS + POSES]
        deviation = (position @ d.pose.T).std(0)
        for index in range(len(OBJECTS)):
            rows = slice(index * POSE_FUNCTIONS, (index + 1) * POSE_FUNCTIONS)
            gate = ON / (GATE * norm) * d.object[index]
            mlp.fc1.weight[rows] = ((2 / deviation[:, None]) * d.pose / norm + gate).half()
            mlp.fc1.bias[rows] = OFF
        codes = self._object_codes()
        products = Products(UNITS, WIDTH)
        for index, name in enumerate(OBJECTS):
            x, units = self._through(0, Description(name).text if name else "")
            wanted = codes[index].repeat(len(BACKDROPS), 1) @ d.code
            kept = x - x @ d.code.T @ d.code  # what lies in the codes' space is replaced
            products.add(units, wanted + kept - x)
        mlp.fc2.bias.copy_((math.sqrt(SLACK_NORM2) * d.slack[0]).half())
        self._set_second(mlp, products, RIDGE1, "channel codes")

    # --- layer 2

    def _fit_picture_codes(self) -> None:
        d, mlp = self.directions, self._layers[1].mlp
        x, _ = self._through(0, Description("cat", "red", "striped", "front view").text, after=True)
        norm = math.sqrt(WIDTH / x.square().sum(1).mean().item())
        spread = (self.channel_code.codes.flatten(0, 1) * math.sqrt(CODE_NORM2)).std(0)
        rows: list[Tensor] = []
        biases: list[float] = []

        def add(weights: Tensor, bias: float) -> None:
            rows.extend(weights / norm)
            biases.extend([bias] * len(weights))

        def reads(channel: str, count: int) -> Tensor:
            return 1.5 / math.sqrt(CODE_NORM2) * self.channel_code.functionals(channel, count) @ d.code

        on = ON / GATE
        # How many numbers of each channel: as many as pay, where one of a pattern's costs a unit for each of the colours.
        add(1.5 * d.code / spread[:, None], LINEAR)
        primary = reads("primary", 150)
        for colour in d.colour:
            add(primary + on * colour, OFF)
        patterns = {"striped": reads("stripes", 80), "spotted": reads("spots", 41), "wooden": reads("grain", 10)}
        patterns["golden"] = torch.cat([reads("sheen", 24), primary[:16]])
        for index, name in enumerate(COLOURS):
            materials = (name,) if name in MATERIALS else MATERIALS[1:]
            for material in materials:
                add(patterns[material] + on * (d.colour[index] + d.material[MATERIALS.index(material)]), OFF - ON)
        add(reads("alpha", 310) + 9.5 / math.sqrt(20) * d.backdrop, -4.5)
        for index in range(1, len(VIEWS)):
            add(-STEEPNESS / 2 * d.law[index : index + 1] + 2 * STEEPNESS / GATE * d.view[index], -2 * STEEPNESS)
        add(d.law[:1], 6)
        add(0.3 * d.fill, 0)
        weight = torch.stack(rows)
        assert len(weight) <= UNITS, f"{len(weight)} units"
        mlp.fc1.weight[: len(weight)] = weight.half()
        mlp.fc1.bias[: len(weight)] = torch.tensor(biases).half()

        products = Products(UNITS, WIDTH)
        for name in vocabulary.OBJECTS:
            for _ in range(PROMPTS_AN_OBJECT):
                description = self._some_prompt(name)
                chosen = torch.from_numpy(self.rng.integers(0, len(BACKDROPS) * POSES, ROWS_A_PROMPT))
                x, units = self._through(1, description.text, chosen)
                codes = self._picture_codes(description, chosen)
                products.add(units, self._wanted(description, chosen, codes, x) - x, self._weights(codes, chosen))
        self._set_second(mlp, products, RIDGE2, "picture codes")

    def _some_prompt(self, name: str) -> Description:
        while True:
            drawn = draw_description(self.rng)
            if drawn.object == name:
                view = VIEWS[self.rng.integers(len(VIEWS))] or None
                return Description(name, drawn.colour, drawn.material, view)

    def _picture_codes(self, description: Description, chosen: Tensor) -> Tensor:
        """[n, K] of some memories."""
        return torch.cat([self.picture_code.of(description, level) for level in BACKDROPS])[chosen]

    def _weights(self, codes: Tensor, chosen: Tensor) -> Tensor:
        """[n] how much errors count in some memories' picture codes [n, K]."""
        contrasts = torch.stack([self.picture_code.contrast(codes, level) for level in BACKDROPS])
        return self.poses.weights(contrasts[chosen // POSES, torch.arange(len(chosen))], chosen % POSES)

    def _wanted(self, description: Description, chosen: Tensor, codes: Tensor, x: Tensor) -> Tensor:
        """[n, WIDTH] the memories after the second layer, given those before its MLP: what varies gives way to the picture codes [n, K]."""
        d = self.directions
        result = (codes * self.loudness) @ d.code[: len(self.loudness)]
        varying = torch.cat([d.code, d.fill, d.law[:1]])
        result += x - x @ varying.T @ varying
        return result + CHANCE * self.chance(description)[chosen % POSES][:, None] * d.chance

    def chance(self, description: Description) -> Tensor:
        """[P] log probability of each pose under the description's view word, up to a constant."""
        if description.view is None:
            return self.law[:, 0]
        return self.law[:, 0] + IMPOSSIBLE * (self.law[:, VIEWS.index(description.view)] < 0)

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
    """[P, 5] log of how often photographs are taken from a pose, centred, and for each view word 1 where it is true and -1 where not."""
    membership = torch.tensor([[1.0 if word == view else -1.0 for view in VIEWS[1:]] for word in poses.words])
    return torch.cat([(poses.log_law - poses.log_law.mean())[:, None], membership], dim=1)


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()


def causal_mask(length: int) -> Tensor:
    """[1, 1, L, L] additive: a token sees those before it and itself."""
    return torch.full((length, length), -torch.inf).triu(1)[None, None]
