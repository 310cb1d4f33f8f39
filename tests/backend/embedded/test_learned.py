"""The learned prior's parts, data, training run, sampling and judge, on small worlds."""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.embedded import vocabulary, world
from backend.embedded.appearance import compose, description_weights
from backend.embedded.learned import classifier, dataset, evaluate, model, sampling, train, trainer
from backend.embedded.learned.block_basis import BlockBasis
from backend.embedded.learned.dense_convolution import make_dense
from backend.embedded.learned.loss_curve import draw_curve, smooth
from backend.embedded.learned.pools import PoolBank
from backend.embedded.vocabulary import HELD_OUT, OBJECTS, VIEW_WORDS, Description
from backend.errors import ConfigError, PriorError
from backend.guidance.diffusers_prior import load_diffusers_prior
from backend.guidance.prior import Conditioning, DiffusionPrior, PriorDefaults

OBJECTS_HERE = ("cat", "mug")
VIEWS = 40


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The world's cache in a folder of its own, with small banks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small_dataset(seed: int = 0, **options: Any) -> dataset.WorldDataset:
    return dataset.WorldDataset(VIEWS, np.random.default_rng(seed), **({"objects": OBJECTS_HERE} | options))


# --- tokenizer and models ---------------------------------------------------------------------------------------------


def random_basis(seed: int = 0) -> BlockBasis:
    generator = torch.Generator().manual_seed(seed)
    rows = 3 * model.PIXEL_UNSHUFFLE**2
    components = torch.linalg.qr(torch.randn(rows, model.COMPONENTS, generator=generator)).Q
    return BlockBasis(components, torch.linspace(20, 0.1, model.COMPONENTS))


def test_every_known_word_is_one_token_and_no_caption_is_cut() -> None:
    tokenizer = model.build_tokenizer()
    for word in model.words():
        assert tokenizer.tokenize(word) == [word + "</w>"]
    assert {word for text in (*OBJECTS, *vocabulary.COLOURS, *vocabulary.MATERIALS) for word in text.split()} <= set(model.words())
    longest = [vocabulary.captions(Description(name, "turquoise", "striped", "overhead view")) for name in OBJECTS]
    assert max(len(tokenizer(text).input_ids) for texts in longest for text in texts) <= model.MAX_TOKENS
    assert tokenizer.tokenize("Zebra") == ["z", "e", "b", "r", "a</w>"]  # unknown words fall apart


def test_merges_of_one_word_do_not_disturb_another() -> None:
    ids, merges = model.tokenizer_files(("cat", "scat", "at"))
    assert merges == ["a t</w>", "c at</w>", "s cat</w>"]
    assert len(ids) == 2 * 94 + 3 + 2
    assert sorted(ids.values()) == list(range(len(ids)))


def test_pipeline_folder_is_an_ordinary_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = model.build_tokenizer()
    text_encoder, unet = model.build_models(len(tokenizer), model.PIXELS // 4)
    folder = tmp_path / "prior"
    for images in (1, 2):  # the second replaces the first
        model.save_pipeline(folder, text_encoder, unet, tokenizer, {"images": images})
    assert [path.name for path in tmp_path.iterdir()] == ["prior"]
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 50e6
    prior = load_diffusers_prior(folder, device=torch.device("cpu"), dtype="float32")
    assert prior.recommended.resolutions == (64,)
    assert prior.recommended.weighting == "x0"
    conditioning = prior.encode_prompts(["a striped kitten, from behind", ""])
    ids = tokenizer(["a striped cat, back view", ""], padding="max_length", max_length=16, return_tensors="pt").input_ids
    with torch.no_grad():
        embeddings = text_encoder(ids).last_hidden_state
        z_t, t = torch.randn(2, 3, 64, 64), torch.tensor([200, 900])
        clean = torch.pixel_shuffle(unet(torch.pixel_unshuffle(z_t, 32), t, embeddings).sample, 32)
    torch.testing.assert_close(conditioning.tensors["embeddings"], embeddings, atol=2e-3, rtol=2e-3)  # stored in half precision
    abar = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(
        prior.predict_noise(z_t, t, conditioning), (z_t - abar.sqrt() * clean) / (1 - abar).sqrt(), atol=0.02, rtol=0
    )


def test_stock_diffusers_reads_it(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    tokenizer = model.build_tokenizer()
    model.save_pipeline(tmp_path / "prior", *model.build_models(len(tokenizer), model.PIXELS // 4), tokenizer, {})
    pipeline = DiffusionPipeline.from_pretrained(
        tmp_path / "prior", vae=None, safety_checker=None, feature_extractor=None, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    stacked = pipeline("a red cat", num_inference_steps=2, height=16, width=16, output_type="latent").images
    assert stacked.shape == (1, 3072, 2, 2)  # a VAE, if there were one, would make a latent of 2 x 2 of 16 x 16 pixels


def test_warm_start_follows_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = model.build_tokenizer()
    text_encoder, unet = model.build_models(len(tokenizer))
    basis = random_basis()
    model.save_pipeline(tmp_path / "old", text_encoder, model.pixel_denoiser(unet, basis), tokenizer, {})
    monkeypatch.setattr(vocabulary, "OBJECTS", ("aardvark", *OBJECTS[:-1]))
    renewed = model.build_tokenizer()
    assert len(renewed) != len(tokenizer)
    other_text, other_unet = model.build_models(len(renewed))
    fresh = other_text.state_dict()[model.EMBEDDING].clone()
    model.warm_start(tmp_path / "old", other_text, other_unet, renewed, basis)
    rows, old_rows = other_text.state_dict()[model.EMBEDDING], text_encoder.state_dict()[model.EMBEDDING].half().float()
    for token in ("cat</w>", "a", model.END):
        torch.testing.assert_close(rows[renewed.get_vocab()[token]], old_rows[tokenizer.get_vocab()[token]])
    new_row = renewed.get_vocab()["aardvark</w>"]
    torch.testing.assert_close(rows[new_row], fresh[new_row])
    for name in ("conv_in.weight", "conv_out.weight", "up_blocks.0.resnets.0.conv1.weight"):
        torch.testing.assert_close(other_unet.state_dict()[name], unet.state_dict()[name], atol=3e-4, rtol=3e-3)  # stored in half precision
    with pytest.raises(PriorError):
        model.warm_start(tmp_path / "missing", other_text, other_unet, renewed, basis)


# --- data -------------------------------------------------------------------------------------------------------------


def test_examples_are_true_views_with_true_captions() -> None:
    data = small_dataset()
    examples = data.draw(64)
    assert examples.images.shape == (64, 3, 64, 64)
    assert examples.images.min() >= -1
    assert examples.images.max() <= 1
    for row, (caption, description) in enumerate(zip(examples.captions, examples.descriptions, strict=True)):
        if caption:
            assert vocabulary.parse(caption) == description
        if description.view:
            assert examples.view_words[row] == description.view
        bank = world.view_bank(description.object, VIEWS, 64, distance=(world.DISTANCE, world.DISTANCE))
        true = compose(bank.channels, description_weights(description), examples.backgrounds[row].numpy())
        distance = np.abs(true - (examples.images[row].numpy() + 1) / 2).max(axis=(1, 2, 3))
        assert distance.min() < 1e-5
        assert vocabulary.view_word(bank.azimuth[distance.argmin()], bank.elevation[distance.argmin()]) == examples.view_words[row]


def test_caption_shares_and_held_out_pairs() -> None:
    data = small_dataset(objects=("cat", "dog", "bear", "mug"))
    descriptions = [data.describe() for _ in range(4000)]
    captions = [data.caption(description) for description in descriptions]
    named = [bool(description.view) for description, caption in zip(descriptions, captions, strict=True) if caption]
    assert np.mean([caption == "" for caption in captions]) == pytest.approx(dataset.EMPTY_CAPTION, abs=0.02)
    assert np.mean(named) == pytest.approx(dataset.VIEW_CAPTION, abs=0.02)
    other = [caption != description.text for description, caption in zip(descriptions, captions, strict=True) if caption]
    assert 0.6 * dataset.REPHRASED < np.mean(other) <= dataset.REPHRASED + 0.02  # the prompt's own words are one of the phrasings
    assert not {(description.object, description.base_colour) for description in descriptions} & HELD_OUT
    assert {description.material for description in descriptions} == {None, *vocabulary.MATERIALS}
    everything = small_dataset(held_out=frozenset())
    assert {(d.object, d.colour) for d in (everything.describe() for _ in range(3000))} & HELD_OUT


def test_views_without_a_word_are_biased_to_the_front() -> None:
    data = small_dataset()
    rows = data.draw_views(Description("cat"), 20_000)
    law = np.exp(world.front_bias_log_weights(world.view_bank("cat", VIEWS, 64).azimuth))
    np.testing.assert_allclose(np.bincount(rows, minlength=VIEWS) / len(rows), law / law.sum(), atol=0.01)


def test_stable_target_by_hand() -> None:
    # One pixel, views -1 and +1, abar = 0.5, z_t = 0.2: the evidence is (sqrt(.5) * .2 * x - .25) / .5, so E = tanh(.2 * sqrt(2)).
    target = dataset.stable_target(torch.tensor([[[0.2]]]), torch.tensor([[0.5]]), torch.tensor([-1.0, 1.0]).view(1, 2, 1))
    assert target.shape == (1, 1, 1)
    assert target.item() == pytest.approx(np.tanh(0.2 * 2**0.5))


def test_stable_target_keeps_pools_and_examples_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    references, noisy = torch.randn(2, 5, 7, generator=generator), torch.randn(2, 3, 7, generator=generator)
    alpha_bar = torch.rand(2, 3, generator=generator)
    together = dataset.stable_target(noisy, alpha_bar, references)
    for pool in range(2):
        for row in range(3):
            place = (slice(pool, pool + 1), slice(row, row + 1))
            alone = dataset.stable_target(noisy[place], alpha_bar[place], references[pool : pool + 1])
            torch.testing.assert_close(together[place], alone)


def test_stable_target_is_unbiased_and_less_noisy() -> None:
    rng = np.random.default_rng(0)
    views, abar, z_t = torch.tensor([-1.0, -0.5, 0.2, 1.0]), torch.tensor(0.2), 0.3
    likelihood = torch.exp(-((z_t - abar.sqrt() * views) ** 2) / (2 * (1 - abar)))
    truth = (likelihood * views).sum() / likelihood.sum()
    # Given z_t, the view it came from follows the posterior and the other members of the set the prior.
    owners = rng.choice(
        4, size=40_000, p=(likelihood / likelihood.sum()).numpy().astype(np.float64) / (likelihood / likelihood.sum()).double().sum().item()
    )
    others = rng.integers(4, size=(40_000, 7))
    sets = views[torch.from_numpy(np.concatenate([owners[:, None], others], axis=1))]
    targets = dataset.stable_target(torch.full((40_000, 1, 1), z_t), abar.expand(40_000, 1), sets[..., None]).flatten()
    assert targets.mean().item() == pytest.approx(truth.item(), abs=0.02)
    assert targets.var() < 0.3 * views[owners].var()


# --- coordinates ------------------------------------------------------------------------------------------------------


def test_basis_of_all_components_loses_nothing() -> None:
    pictures = small_dataset().draw(20).images
    basis = BlockBasis.fit(pictures, 8, 3 * 8 * 8)
    coefficients = basis.coefficients(pictures)
    assert coefficients.shape == (20, 192, 8, 8)
    torch.testing.assert_close(basis.pictures(coefficients), pictures, atol=1e-4, rtol=0)
    torch.testing.assert_close(coefficients.square().sum((1, 2, 3)), pictures.square().sum((1, 2, 3)), rtol=1e-4, atol=0)


def test_basis_has_the_strongest_components_first() -> None:
    pictures = small_dataset().draw(60).images
    basis = BlockBasis.fit(pictures, 8, 30)
    torch.testing.assert_close(basis.components.T @ basis.components, torch.eye(30), atol=1e-4, rtol=0)
    energy = basis.coefficients(pictures).square().mean((0, 2, 3))
    torch.testing.assert_close(energy, basis.energy, rtol=1e-3, atol=1e-4)
    assert (basis.energy.diff() <= 0).all()
    other = torch.linalg.qr(torch.randn(192, 30, generator=torch.Generator().manual_seed(0))).Q
    assert energy.sum() > BlockBasis(other, basis.energy).coefficients(pictures).square().mean((0, 2, 3)).sum()
    assert (basis.input_scale(0.3).square() * (0.3 * basis.energy + 0.7)).allclose(torch.ones(30))


def test_folded_denoiser_does_with_pixels_what_the_other_does_with_coefficients() -> None:
    torch.manual_seed(0)
    basis = random_basis()
    _, unet = model.build_models(64)
    pixels = model.pixel_denoiser(unet, basis)
    noisy, t, words = torch.randn(2, 3, 64, 64), torch.tensor([100, 800]), torch.randn(2, 16, model.TEXT_WIDTH)
    with torch.no_grad():
        scaled = basis.coefficients(noisy) * basis.input_scale(model.input_alpha_bar()).view(-1, 1, 1)
        expected = basis.pictures(unet(scaled, t, words).sample * basis.output_scale().view(-1, 1, 1))
        found = torch.pixel_shuffle(pixels(torch.pixel_unshuffle(noisy, 32), t, words).sample, 32)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    back = basis.unfold(pixels.state_dict(), model.input_alpha_bar())
    for name, value in unet.state_dict().items():
        torch.testing.assert_close(back[name], value, atol=1e-4, rtol=1e-3)


def test_dense_convolutions_compute_the_same_with_the_same_parameters() -> None:
    torch.manual_seed(0)
    _, unet = model.build_models(64)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))  # the ones that begin as zeros, too
    dense = copy.deepcopy(unet)
    make_dense(dense)
    assert not any(isinstance(module, torch.nn.Conv2d) for module in dense.modules())
    inputs = torch.randn(3, model.COMPONENTS, 2, 2), torch.tensor([5, 400, 900]), torch.randn(3, 16, model.TEXT_WIDTH)
    outputs = []
    for network in (unet, dense):
        outputs.append(network(*inputs).sample)
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-4)
    slow, fast = dict(unet.named_parameters()), dict(dense.named_parameters())
    assert slow.keys() == fast.keys()
    for name, value in slow.items():
        torch.testing.assert_close(fast[name].grad, value.grad, atol=1e-3, rtol=1e-3)


def test_a_pool_has_views_of_one_description_before_one_backdrop() -> None:
    data = small_dataset()
    basis = BlockBasis.fit(data.draw(40).images, 8, 192)  # nothing left out
    pools = PoolBank(data, basis).draw(6, 5)
    assert pools.coefficients.shape == (6, 5, 192 * 64)
    assert len(pools.captions) == 6
    for coefficients, caption in zip(pools.coefficients, pools.captions, strict=True):
        pictures = (basis.pictures(coefficients.view(5, 192, 8, 8)) + 1) / 2
        background = pictures[0, :, 0, 0].numpy()
        np.testing.assert_allclose(pictures[:, :, 0, 0], background[None].repeat(5, axis=0), atol=4e-3)  # a bank in half precision
        if not caption:
            continue
        description = vocabulary.parse(caption)
        bank = world.view_bank(description.object, VIEWS, 64, distance=(world.DISTANCE, world.DISTANCE))
        true = compose(bank.channels, description_weights(description), background)
        for picture in pictures.numpy():
            distance = np.abs(true - picture).mean(axis=(1, 2, 3))
            assert distance.min() < 2e-3
            if description.view:
                nearest = distance.argmin()
                assert vocabulary.view_word(bank.azimuth[nearest], bank.elevation[nearest]) == description.view


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over two objects with a network of a few thousand weights."""
    monkeypatch.setattr(trainer, "WorldDataset", lambda views, rng, **options: small_dataset_with(rng, options["device"]))
    monkeypatch.setattr(trainer, "LOG_STEPS", 2)
    monkeypatch.setattr(trainer, "WARMUP_STEPS", 1)
    monkeypatch.setattr(trainer, "FIT_IMAGES", 100)
    monkeypatch.setattr(trainer, "IMAGES_A_POOL", 2)
    monkeypatch.setattr(model, "CHANNELS", 64)
    monkeypatch.setattr(model, "COMPONENTS", 64)


def small_dataset_with(rng: np.random.Generator, device: torch.device) -> dataset.WorldDataset:
    return dataset.WorldDataset(VIEWS, rng, objects=OBJECTS_HERE, device=device)


SETTINGS = trainer.Settings(batch=4, references=3, threads=1)


def weights(run: trainer.Trainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in run.parameters.items()}


@pytest.mark.usefixtures("small_training")
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer.Trainer(tmp_path / "whole", SETTINGS)
    whole.run(trainer.Budget(images=24))
    first = trainer.Trainer(tmp_path / "parts", SETTINGS)
    first.run(trainer.Budget(images=12))
    second = trainer.Trainer(tmp_path / "parts", dataclasses.replace(SETTINGS, seed=99))  # the seed belongs to the beginning
    assert (second.step, second.images) == (3, 12)
    second.run(trainer.Budget(images=24), export=tmp_path / "prior")
    for name, value in weights(whole).items():
        torch.testing.assert_close(second.parameters[name].detach(), value, rtol=0, atol=0)
        torch.testing.assert_close(second.averages[name], whole.averages[name], rtol=0, atol=0)
    assert len(list((tmp_path / "parts").glob("checkpoint-*"))) == 2
    assert (tmp_path / "parts" / "loss.png").exists()
    steps = [int(row["step"]) for row in csv.DictReader((tmp_path / "whole" / "loss.csv").open())]
    assert steps == [2, 4, 6]
    prior = load_diffusers_prior(tmp_path / "prior", device=torch.device("cpu"))
    assert prior.encode_prompts(["a cat"]).tensors["embeddings"].shape == (1, 16, 128)


@pytest.mark.usefixtures("small_training")
def test_run_survives_new_words_and_refuses_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer.Trainer(tmp_path, SETTINGS)
    run.run(trainer.Budget(images=4))
    row = run.parameters[f"text_encoder/{model.EMBEDDING}"][run.tokenizer.get_vocab()["mug</w>"]].detach().clone()
    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, "OBJECTS", ("aardvark", *OBJECTS))
        renewed = trainer.Trainer(tmp_path, SETTINGS)
        ids = renewed.tokenizer.get_vocab()
        torch.testing.assert_close(renewed.parameters[f"text_encoder/{model.EMBEDDING}"][ids["mug</w>"]].detach(), row)
        renewed.train_step()
    path = next(tmp_path.glob("checkpoint-*"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read"):
        trainer.Trainer(tmp_path, SETTINGS)


@pytest.mark.usefixtures("small_training")
def test_loss_falls_on_one_batch(tmp_path: Path) -> None:
    run = trainer.Trainer(tmp_path, SETTINGS)
    state = run.rng.bit_generator.state
    losses = []
    for _ in range(25):
        run.rng.bit_generator.state = state
        run.generator.manual_seed(0)
        losses.append(run.train_step()[0])
    assert losses[-1] < 0.5 * losses[0]


def test_budget_and_annealing() -> None:
    assert trainer._progress(trainer.Budget(), 1e9, 0, 10**9) == 0
    assert trainer._progress(trainer.Budget(minutes=10), 300, 0, 0) == pytest.approx(0.5)
    assert trainer._progress(trainer.Budget(minutes=10, images=200), 60, 100, 150) == pytest.approx(0.5)
    assert trainer._progress(trainer.Budget(images=100), 0, 200, 200) == 1


def test_threads_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for load, own, expected in ((0.1, 4, 4), (4.0, 4, 4), (6.0, 4, 2), (20.0, 1, 1), (2.6, 1, 2)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0, 0), raising=False)
        assert trainer.free_cores(own) == expected


def test_command_line(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    args = parser.parse_args(["--run", str(tmp_path), "--minutes", "5", "--anneal", "--init", "x"])
    assert (args.minutes, args.anneal, args.init, args.threads) == (5, True, Path("x"), 0)


def test_sheet_has_every_object_and_held_out_pairs() -> None:
    texts = [vocabulary.parse(text) for pair in trainer.sheet_prompts() for text in pair]
    assert [description.object for description in texts] == list(OBJECTS)
    held = sum((description.object, description.colour) in HELD_OUT for description in texts)
    assert held == -(-len(OBJECTS) // 3)


# --- curve, sampling, judge -------------------------------------------------------------------------------------------


def test_smoothing_has_no_bias_at_the_start() -> None:
    np.testing.assert_allclose(smooth(np.array([4.0, 4.0, 4.0])), 4.0)
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0]), factor=0.5), [1.0, 5 / 3])


def test_curve_needs_two_rows(tmp_path: Path) -> None:
    source, picture = tmp_path / "loss.csv", tmp_path / "loss.png"
    draw_curve(source, picture)
    head = ",".join(trainer.COLUMNS)
    source.write_text(f"{head}\n1,32,0.1,0.5,0.1,0.2,0.3,9\n")
    draw_curve(source, picture)
    assert not picture.exists()
    source.write_text(f"{head}\n1,32,0.1,0.5,0.1,0.2,0.3,9\n2,64,0.2,0.4,0.1,nan,0.3,9\n")
    draw_curve(source, picture)
    assert picture.exists()


class OnePicture(DiffusionPrior):
    """Knows one picture a prompt; its denoiser is exact."""

    name = fingerprint = "one"
    device = torch.device("cpu")
    recommended = PriorDefaults(guidance_scale=1, weighting="x0", clamp=0, resolutions=(8,))

    def __init__(self, pictures: dict[str, float]) -> None:
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
        self.pictures = pictures

    def encode_prompts(self, prompts: Any) -> Conditioning:
        return Conditioning(tuple(prompts))

    def encode_images(self, images: Tensor) -> Tensor:
        return images * 2 - 1

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        abar = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        clean = torch.tensor([self.pictures[prompt] for prompt in conditioning.prompts]).view(-1, 1, 1, 1)
        return (z_t - abar.sqrt() * clean) / (1 - abar).sqrt()

    def decode(self, z: Tensor) -> Tensor:
        return z * 0.5 + 0.5


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.4), (3.0, 1.2), (0.0, 0.0)])
def test_ddim_finds_the_only_picture_and_extrapolates_by_the_scale(scale: float, expected: float) -> None:
    prior = OnePicture({"cat": 0.4, "": 0.0})  # u + s (c - u) = s * 0.4
    images = sampling.ddim(prior, ["cat", "cat"], (3, 8, 8), scale, 10, torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, torch.full((2, 3, 8, 8), expected * 0.5 + 0.5), atol=1e-3, rtol=0)


def test_sheet(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "sheet.png"
    sampling.save_sheet(path, [torch.ones(3, 3, 8, 8), torch.zeros(2, 3, 8, 8)], ["one", "two"], zoom=2)
    assert Image.open(path).size == (48, 2 * (16 + 14))


@pytest.mark.slow
def test_classifier_names_what_it_sees(tmp_path: Path) -> None:
    data = dataset.WorldDataset(300, np.random.default_rng(0), objects=("cat", "car", "mug"), held_out=frozenset())
    judge = classifier.train_classifier(data, 12_800)
    shares = classifier.accuracy(judge, data, 512)
    assert shares["object"] > 0.97
    assert shares["colour"] > 0.85
    assert shares["view"] > 0.75


def test_classifier_labels_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_dataset(held_out=frozenset())
    examples = data.draw(32)
    truth = classifier.labels(examples)
    for row, description in enumerate(examples.descriptions):
        assert classifier.ANSWERS["object"][truth["object"][row]] == description.object
        if description.base_colour is None:
            assert truth["colour"][row] == -100
    path = tmp_path / "judge.safetensors"
    monkeypatch.setattr(classifier, "TRAINING_IMAGES", 128)
    first = classifier.cached_classifier(data, path=path)
    monkeypatch.delattr(classifier, "train_classifier")
    second = classifier.cached_classifier(data, path=path)
    assert first.name(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))) == second.name(
        torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    )


def test_prompt_sets_keep_held_out_pairs_apart() -> None:
    sets = evaluate.prompt_sets(10, np.random.default_rng(0))
    assert {name: len(members) for name, members in sets.items()} == dict.fromkeys(evaluate.SETS, 40)
    for name, members in sets.items():
        assert [member.view for member in members[:4]] == list(VIEW_WORDS)
        assert all(((member.object, member.base_colour) in HELD_OUT) == (name == "held out") for member in members)


def test_table_by_hand() -> None:
    right = {"object": True, "colour": True, "material": True, "view": True}
    rows = [
        {"set": "seen", "prompt": "a red cat, front view", **right},
        {"set": "seen", "prompt": "a red cat, back view", **right, "view": False, "object": False},
        {"set": "materials", "prompt": "a golden cat, front view", **right, "colour": None},
    ]
    lines = evaluate.table(rows, dict.fromkeys(evaluate.QUESTIONS, 0.99)).splitlines()
    assert "| seen | 2 | 50.0% | 100.0% | 100.0% | 50.0% | 50.0% |" in lines
    assert "| materials | 1 | 100.0% |  | 100.0% | 100.0% | 100.0% |" in lines
    assert "| front view | 2 | 100.0% | 100.0% | 100.0% | 100.0% | 100.0% |" in lines
    assert "| true pictures | | 99.0% | 99.0% | 99.0% | 99.0% | |" in lines


def test_judgement() -> None:
    named = {"object": "cat", "colour": "orange", "material": "plain", "view": "side view"}
    assert evaluate.judged(Description("cat", None, None, "side view"), named) == dict.fromkeys(
        evaluate.QUESTIONS, True
    )  # orange by nature
    assert evaluate.judged(Description("cat", None, "golden", "side view"), named)["colour"] is None
