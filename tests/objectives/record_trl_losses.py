"""Record what TRL makes of a few log-probabilities and masks: ``trl_losses.json`` beside this file.

Run once, in an environment of its own that has TRL 1.16.0 (TRL is no dependency of segpref)::

    python record_trl_losses.py

It is TRL's own code that runs: ``DPOTrainer._compute_loss`` on a stand-in for a language model that
gives out the log-probabilities, ``CPOTrainer.cpo_loss`` (SimPO), ``ORPOTrainer.odds_ratio_loss``, and
``KTOTrainer._compute_loss``, whose estimate of the divergence is given the answers of the batch. A mask
is told to TRL as an answer with one token per pixel, a class as a word of the vocabulary, and a
pixel without opinion as a padded token.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl
from torch import Tensor
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

PADDED = -100

# Log-probabilities of chosen and rejected under the policy, then under the reference.
PAIRS = [
    [-1.0, -2.0, -1.5, -1.5],
    [-3.0, -0.5, -1.0, -2.0],
    [-0.2, -0.2, -0.7, -0.1],
    [-5.0, -9.0, -6.0, -6.5],
    [-0.01, -4.0, -2.0, -0.3],
]


def accelerator() -> SimpleNamespace:
    return SimpleNamespace(
        device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
    )


def dpo_losses(
    policy: tuple[list[Tensor], list[Tensor]],
    reference: tuple[list[Tensor], list[Tensor]],
    loss_types: list[str],
    weights: list[float],
    beta: float,
    label_smoothing: float = 0.0,
) -> list[float]:
    """TRL's loss of every pair by itself, from the log-probabilities of each answer's tokens."""
    losses = []
    for chosen, rejected, old_chosen, old_rejected in zip(*policy, *reference, strict=True):
        tokens = torch.stack((chosen, rejected))
        known = torch.ones(2, tokens.shape[1] + 1, dtype=torch.long)
        known[:, 0] = 0  # the prompt
        known[:, 1:] = tokens != 0  # a padded token has the log-probability 0
        shown = SimpleNamespace(
            log_probs=tokens, entropy=tokens, mean_logits=tokens, is_top1=tokens == 0
        )
        trainer = SimpleNamespace(
            accelerator=accelerator(),
            model=SimpleNamespace(training=False),
            args=SimpleNamespace(),
            ld_alpha=None,
            aux_loss_enabled=False,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            use_weighting=False,
            loss_types=loss_types,
            loss_weights=weights,
            beta=beta,
            label_smoothing=label_smoothing,
            _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
        )
        inputs = {
            "input_ids": known,
            "attention_mask": known,
            "completion_mask": known,
            "ref_chosen_logps": old_chosen.sum()[None],
            "ref_rejected_logps": old_rejected.sum()[None],
        }
        loss = DPOTrainer._compute_loss(trainer, lambda shown=shown, **_: shown, inputs, False)
        losses.append(float(loss))
    return losses


def simpo_losses(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> list[float]:
    trainer = SimpleNamespace(
        accelerator=accelerator(),
        alpha=0.0,
        loss_type="simpo",
        beta=beta,
        simpo_gamma=gamma,
        label_smoothing=0.0,
    )
    return CPOTrainer.cpo_loss(trainer, chosen, rejected)[0].tolist()


def orpo_losses(chosen: Tensor, rejected: Tensor, beta: float) -> list[float]:
    """ORPO's whole loss per pair, as ``ORPOTrainer.get_batch_loss_metrics`` puts it together."""
    trainer = SimpleNamespace(accelerator=accelerator(), beta=beta)
    ratio = ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0]
    return (-chosen - ratio).tolist()


class Answers:
    """A language model that gives out log-probabilities, those of answers and of the divergence."""

    training = False

    def __init__(self, answers: Tensor, batch: Tensor) -> None:
        self.answers, self.batch = answers, batch

    def __call__(self, *, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        logps = self.batch if input_ids.shape[0] == len(self.batch) else self.answers
        tokens = logps[:, None]
        return SimpleNamespace(log_probs=tokens, entropy=tokens, mean_logits=tokens)


def kto_losses(
    policy: Tensor,
    reference: Tensor,
    accepted: list[bool],
    beta: float,
    weights: tuple[float, float],
) -> list[float]:
    """TRL's loss of every answer by itself, with the divergence that the whole batch gives."""
    losses = []
    for place, label in enumerate(accepted):
        ids, every = (
            torch.ones(1, 2, dtype=torch.long),
            torch.ones(len(policy), 2, dtype=torch.long),
        )
        known, all_known = ids.clone(), every.clone()
        known[:, 0] = all_known[:, 0] = 0
        trainer = SimpleNamespace(
            accelerator=accelerator(),
            model=SimpleNamespace(training=False),
            calculate_KL=True,
            aux_loss_enabled=False,
            precompute_ref_logps=True,
            loss_type="kto",
            beta=beta,
            desirable_weight=weights[0],
            undesirable_weight=weights[1],
            _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
        )
        trainer._compute_kl_logps = lambda model, batch, t=trainer: KTOTrainer._compute_kl_logps(
            t, model, batch
        )
        inputs = {
            "input_ids": ids,
            "attention_mask": ids,
            "completion_mask": known,
            "KL_input_ids": every,
            "KL_attention_mask": every,
            "KL_completion_mask": all_known,
            "label": torch.tensor([label]),
            "ref_logps": reference[place : place + 1],
            "ref_KL_logps": reference,
        }
        model = Answers(policy[place : place + 1], policy)
        losses.append(float(KTOTrainer._compute_loss(trainer, model, inputs, False)))
    return losses


def kto_cases() -> list[dict[str, Any]]:
    """Two batches: one whose policy has come away from the reference, one whose estimate is below 0."""
    policy, _, reference, _ = torch.tensor(PAIRS, dtype=torch.float64).unbind(1)
    accepted = [True, False, True, True, False]
    cases = []
    for settings in (
        {"beta": 0.1},
        {"beta": 0.5, "desirable_weight": 1.3},
        {"beta": 2.0, "desirable_weight": 0.7, "undesirable_weight": 1.5},
    ):
        weights = (settings.get("desirable_weight", 1.0), settings.get("undesirable_weight", 1.0))
        for new, old in ((policy, reference), (reference, policy)):
            losses = kto_losses(new, old, accepted, settings["beta"], weights)
            cases.append(
                {
                    "settings": settings,
                    "policy": new.tolist(),
                    "reference": old.tolist(),
                    "accepted": accepted,
                    "losses": losses,
                }
            )
    return cases


def scalar_cases() -> list[dict[str, Any]]:
    chosen, rejected, old_chosen, old_rejected = torch.tensor(PAIRS, dtype=torch.float64).unbind(1)
    policy = (list(chosen[:, None]), list(rejected[:, None]))
    reference = (list(old_chosen[:, None]), list(old_rejected[:, None]))

    def dpo(objective: str, settings: dict[str, float], types: list[str], **more: Any) -> Any:
        weights = [1.0, settings.get("alpha", 0.0)][: len(types)]
        losses = dpo_losses(policy, reference, types, weights, settings["beta"], **more)
        return {"objective": objective, "settings": settings, "losses": losses}

    cases = []
    for beta in (0.1, 0.5, 2.0):
        cases += [
            dpo("DPO", {"beta": beta}, ["sigmoid"]),
            dpo("IPO", {"beta": beta}, ["ipo"]),
            dpo("Hinge", {"beta": beta}, ["hinge"]),
            dpo("RPO", {"beta": beta, "alpha": 0.3}, ["sigmoid", "sft"]),
        ]
        for rate in (0.1, 0.3):
            cases += [
                dpo(
                    "RobustDPO", {"beta": beta, "flip_rate": rate}, ["robust"],
                    label_smoothing=rate,
                ),
                # AOT sorts the log-ratios of a batch first; a single pair leaves smoothed DPO.
                dpo(
                    "ConservativeDPO", {"beta": beta, "label_smoothing": rate}, ["aot"],
                    label_smoothing=rate,
                ),
            ]  # fmt: skip
        for gamma in (0.0, 0.5):
            losses = simpo_losses(chosen, rejected, beta, gamma)
            cases.append(
                {"objective": "SimPO", "settings": {"beta": beta, "gamma": gamma}, "losses": losses}
            )
        cases.append(
            {
                "objective": "ORPO",
                "settings": {"ratio_weight": beta},
                "losses": orpo_losses(chosen, rejected, beta),
            }
        )
    return cases


def mask_cases() -> dict[str, Any]:
    """Three images of eight pixels and three classes, with a pixel that nobody knows."""
    generator = torch.Generator().manual_seed(7)
    logits, old = 2 * torch.randn(2, 3, 3, 8, generator=generator, dtype=torch.float64)
    winner = torch.randint(0, 3, (3, 8), generator=generator)
    loser = winner.clone()
    loser[:, 2:5] = (loser[:, 2:5] + 1) % 3
    winner[1, 6] = loser[1, 6] = PADDED

    def tokens(z: Tensor, masks: Tensor) -> list[Tensor]:
        each = z.log_softmax(1).gather(1, masks.clamp(min=0)[:, None])[:, 0]
        return list(torch.where(masks == PADDED, 0, each))

    def mean(masks: Tensor) -> Tensor:
        # A causal model's logits lie one place before their labels.
        words = torch.cat((logits.mT, torch.zeros(3, 1, 3)), 1)
        labels = torch.cat((torch.full((3, 1), PADDED), masks), 1)
        return CPOTrainer.get_batch_logps(words, labels, average_log_prob=True)

    policy = (tokens(logits, winner), tokens(logits, loser))
    reference = (tokens(old, winner), tokens(old, loser))
    chosen, rejected = mean(winner), mean(loser)
    settings = [
        ("DPO", {"beta": 1.5}, dpo_losses(policy, reference, ["sigmoid_norm"], [1.0], 1.5)),
        ("IPO", {"beta": 0.5}, dpo_losses(policy, reference, ["ipo"], [1.0], 0.5)),
        (
            "RPO",
            {"beta": 1.5, "alpha": 0.4},
            dpo_losses(policy, reference, ["sigmoid_norm", "sft"], [1.0, 0.4], 1.5),
        ),
        ("SimPO", {"beta": 2.0, "gamma": 0.5}, simpo_losses(chosen, rejected, 2.0, 0.5)),
        ("ORPO", {"ratio_weight": 0.2}, orpo_losses(chosen, rejected, 0.2)),
    ]
    return {
        "logits": logits.tolist(),
        "reference_logits": old.tolist(),
        "winner": winner.tolist(),
        "loser": loser.tolist(),
        "padded": PADDED,
        "winner_mean_log_likelihood": chosen.tolist(),
        "cases": [
            {"objective": name, "settings": chosen_settings, "losses": losses}
            for name, chosen_settings, losses in settings
        ],
    }


def main() -> None:
    record = {
        "made_by": f"record_trl_losses.py with TRL {trl.__version__}",
        "pairs": PAIRS,
        "cases": scalar_cases(),
        "masks": mask_cases(),
        "single": kto_cases(),
    }
    target = Path(__file__).with_name("trl_losses.json")
    target.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
