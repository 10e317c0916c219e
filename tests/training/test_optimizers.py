import pytest
import torch
from torch import nn

from dreamlab.core.errors import InputError
from dreamlab.core.schedules import Schedule
from dreamlab.systems.settings import OptimizerConfig
from dreamlab.training.optimizers import GroupedOptimizer


def groups() -> dict[str, list[nn.Parameter]]:
    return {
        "table": [nn.Parameter(torch.ones(4))],
        "mlp": [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(()))],
    }


def fill_gradients(optimizer: GroupedOptimizer, value: float = 1.0) -> None:
    for parameter in optimizer.parameters:
        parameter.grad = torch.full_like(parameter, value)


def moved(optimizer: GroupedOptimizer) -> list[float]:
    return [float((1 - parameter).detach().mean()) for parameter in optimizer.parameters]


def test_each_group_moves_at_its_own_scheduled_rate() -> None:
    config = OptimizerConfig(lr={"table": Schedule(0.0, 0.2), "mlp": 0.05})
    optimizer = GroupedOptimizer(config, groups())
    fill_gradients(optimizer)
    # The first step of Adam on a constant gradient is as long as the learning rate.
    optimizer.step(0.5, optimizer.gradient_norm())
    assert moved(optimizer) == pytest.approx([0.1, 0.05, 0.05], rel=1e-4)


def test_the_factor_scales_all_rates() -> None:
    optimizer = GroupedOptimizer(OptimizerConfig(lr={"table": 0.2, "mlp": 0.04}), groups())
    fill_gradients(optimizer)
    optimizer.step(0.0, 1.0, factor=0.5)
    assert moved(optimizer) == pytest.approx([0.1, 0.02, 0.02], rel=1e-4)


def test_it_takes_the_steps_of_torchs_adam() -> None:
    config = OptimizerConfig(name="adamw", lr={"table": 0.1, "mlp": 0.1}, weight_decay=0.1)
    ours = GroupedOptimizer(config, groups())
    theirs = [nn.Parameter(torch.ones_like(parameter)) for parameter in ours.parameters]
    adam = torch.optim.AdamW(theirs, lr=0.1, betas=config.betas, eps=config.eps, weight_decay=0.1)
    for step in range(5):
        fill_gradients(ours, step - 1.5)
        for parameter in theirs:
            parameter.grad = torch.full_like(parameter, step - 1.5)
        ours.step(step / 5, ours.gradient_norm())
        adam.step()
    torch.testing.assert_close(ours.parameters, theirs)


def test_the_norm_is_that_of_all_gradients_together() -> None:
    optimizer = GroupedOptimizer(OptimizerConfig(), groups())
    assert optimizer.gradient_norm() == 0
    fill_gradients(optimizer, 2.0)
    assert optimizer.gradient_norm() == pytest.approx(2 * 11**0.5)
    optimizer.parameters[0].grad = torch.tensor([1.0, float("nan"), 0.0, 0.0])
    assert optimizer.gradient_norm() != optimizer.gradient_norm()


def test_long_gradients_are_cut_to_the_limit_and_short_ones_are_not() -> None:
    optimizer = GroupedOptimizer(OptimizerConfig(max_gradient_norm=1.0), groups())
    for value, expected in ((2.0, 1.0), (0.01, 0.01 * 11**0.5)):
        fill_gradients(optimizer, value)
        optimizer.step(0.0, optimizer.gradient_norm())
        assert optimizer.gradient_norm() == pytest.approx(expected)


def test_a_loaded_state_takes_the_same_next_step_bit_for_bit() -> None:
    first = GroupedOptimizer(OptimizerConfig(), groups())
    for step in range(3):
        fill_gradients(first, 0.3 + step)
        first.step(0.1, 1.0)
    second = GroupedOptimizer(OptimizerConfig(), groups())
    with torch.no_grad():
        for mine, theirs in zip(second.parameters, first.parameters, strict=True):
            mine.copy_(theirs)
    second.load_state(first.state())
    for optimizer in (first, second):
        fill_gradients(optimizer, -0.7)
        optimizer.step(0.2, 1.0)
    for mine, theirs in zip(second.parameters, first.parameters, strict=True):
        assert torch.equal(mine, theirs)


def test_a_state_of_other_parameters_is_refused() -> None:
    first = GroupedOptimizer(OptimizerConfig(), groups())
    fill_gradients(first)
    first.step(0.0, 1.0)
    other = GroupedOptimizer(OptimizerConfig(), {"table": [nn.Parameter(torch.ones(5))]})
    with pytest.raises(InputError, match="does not fit"):
        other.load_state(first.state())


def test_a_group_without_a_rate_is_refused() -> None:
    with pytest.raises(InputError, match=r"'lora'.*optimizer\.lr\.lora"):
        GroupedOptimizer(OptimizerConfig(), {"lora": [nn.Parameter(torch.ones(1))]})


def test_a_rate_without_a_group_is_refused_unless_it_is_a_default() -> None:
    GroupedOptimizer(OptimizerConfig(lr={"background": 1.0}), groups())
    with pytest.raises(InputError, match=r"'tabel'.*'table'"):
        GroupedOptimizer(OptimizerConfig(lr={"tabel": 1.0}), groups())
