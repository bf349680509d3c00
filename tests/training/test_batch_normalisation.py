"""Batch normalisation where several processes share a batch."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from segpref.runtime import Runtime


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.InstanceNorm2d(2))


def processes(monkeypatch: pytest.MonkeyPatch, count: int, device: str) -> Runtime:
    monkeypatch.setattr(Runtime, "processes", count)
    monkeypatch.setattr(Runtime, "device", torch.device(device))
    return Runtime()


def test_one_process_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = network()
    assert processes(monkeypatch, 1, "cuda").in_common(before) is before
    assert type(before[1]) is nn.BatchNorm2d


def test_on_gpus_its_statistics_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    before = network()
    keys, weights = list(before.state_dict()), list(map(id, before.parameters()))
    common = processes(monkeypatch, 2, "cuda").in_common(before)
    assert common is before
    assert [type(one) for one in common] == [nn.Conv2d, nn.SyncBatchNorm, nn.InstanceNorm2d]
    # Files stay as they were, and the optimiser's parameters the same objects.
    assert list(common.state_dict()) == keys
    assert list(map(id, common.parameters())) == weights


def test_on_cpus_it_is_said_that_they_are_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here = processes(monkeypatch, 2, "cpu")
    with caplog.at_level(logging.WARNING):
        assert here.in_common(nn.Conv2d(1, 2, 1))
        assert not caplog.messages
        here.in_common(network())
    assert "batch normalisation" in caplog.text
