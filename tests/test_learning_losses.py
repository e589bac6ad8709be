"""Losses do what their formulas say."""

import math

import torch

from midog_qupath.learning.domain import ConditionalDomainHead, reversal_strength, reverse_gradient
from midog_qupath.learning.losses import (
    candidate_loss,
    generalised_cross_entropy,
    mitosis_dice,
    pool_objects,
    supervised_contrastive,
)
from midog_qupath.learning.seeds import IGNORE
from midog_qupath.models.student import HARD_NEGATIVE, MITOSIS

EQUAL = torch.ones(4)


def test_pixel_loss_is_cross_entropy_without_tolerance_and_bounded_with_it() -> None:
    logits = torch.zeros(1, 4, 1, 1)
    target = torch.full((1, 1, 1), MITOSIS)
    assert math.isclose(
        float(generalised_cross_entropy(logits, target, 0.0, EQUAL)), math.log(4), rel_tol=1e-6
    )
    assert math.isclose(float(generalised_cross_entropy(logits, target, 1.0, EQUAL)), 0.75, rel_tol=1e-6)
    wrong = torch.zeros(1, 4, 1, 1)
    wrong[0, 0] = 50.0
    assert float(generalised_cross_entropy(wrong, target, 0.5, EQUAL)) <= 2.0


def test_ignored_pixels_change_no_loss_and_get_no_gradient() -> None:
    logits = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
    target = torch.randint(0, 4, (2, 6, 6), generator=torch.Generator().manual_seed(2))
    target[:, :, 3:] = IGNORE
    loss = generalised_cross_entropy(logits, target, 0.3, EQUAL) + mitosis_dice(logits, target)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:, :, :, 3:].abs().max() == 0
    assert logits.grad[:, :, :, :3].abs().max() > 0


def test_dice_is_zero_for_a_perfect_answer_and_silent_without_mitoses() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    logits = torch.zeros(1, 4, 4, 4)
    assert float(mitosis_dice(logits, target)) == 0
    target[0, :2] = MITOSIS
    logits[0, 0] = 40.0
    logits[0, :, :2] = 0.0
    logits[0, MITOSIS, :2] = 40.0
    assert float(mitosis_dice(logits, target)) < 1e-3


def test_a_mitosis_of_unknown_type_only_has_to_be_a_mitosis() -> None:
    logits = torch.tensor([[-20.0, 0.0, 0.0]])
    target = torch.tensor([[0.0, 0.5, 0.5]])
    assert float(candidate_loss(logits, target, torch.tensor([False]))) < 1e-6
    assert math.isclose(
        float(candidate_loss(logits, target, torch.tensor([True]))), math.log(2), rel_tol=1e-5
    )


def test_contrastive_loss_prefers_classes_that_lie_together() -> None:
    classes = torch.tensor([1, 1, 3, 3])
    apart = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    mixed = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    nothing = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
    good = supervised_contrastive(apart, classes, *nothing, 0.1)
    bad = supervised_contrastive(mixed, classes, *nothing, 0.1)
    assert float(good) < 0.01 < float(bad)


def test_contrastive_loss_uses_the_bank_where_the_batch_has_no_partner() -> None:
    anchor = torch.tensor([[1.0, 0.0]], requires_grad=True)
    bank = torch.tensor([[0.6, 0.8], [0.0, -1.0]])
    loss = supervised_contrastive(anchor, torch.tensor([3]), bank, torch.tensor([3, 1]), 0.5)
    loss.backward()
    assert float(loss.detach()) > 0
    assert anchor.grad is not None


def test_objects_are_pooled_over_their_own_pixels() -> None:
    features = torch.arange(8.0).reshape(1, 2, 2, 2)
    components = torch.tensor([[[1, 1], [0, 2]]])
    pooled = pool_objects(features, components, 2)
    assert torch.equal(pooled, torch.tensor([[0.5, 4.5], [3.0, 7.0]]))


def test_gradient_reversal_reverses() -> None:
    values = torch.ones(3, requires_grad=True)
    reverse_gradient(values, 0.7).sum().backward()
    assert values.grad is not None
    assert torch.allclose(values.grad, torch.full((3,), -0.7))
    assert reversal_strength(0.0, 0.5) == 0
    assert math.isclose(reversal_strength(1.0, 0.5), 0.5, rel_tol=1e-3)


def test_a_class_of_one_domain_takes_no_part_in_the_adversary() -> None:
    head = ConditionalDomainHead(channels=4, domains=2)
    pooled = torch.randn(6, 4, generator=torch.Generator().manual_seed(3), requires_grad=True)
    classes = torch.tensor([MITOSIS] * 3 + [HARD_NEGATIVE] * 3)
    domains = torch.tensor([0, 0, 0, 0, 1, 1])
    verdict = head(pooled, classes, domains, 1.0)
    verdict.loss.backward()
    assert pooled.grad is not None
    assert pooled.grad[:3].abs().max() == 0
    assert pooled.grad[3:].abs().max() > 0
    assert verdict.chance is not None
    assert math.isclose(verdict.chance, 2 / 3, rel_tol=1e-6)


def test_class_survives_where_domain_goes_with_class() -> None:
    """Features that tell class and domain alike: the conditional adversary leaves the class readable."""
    generator = torch.Generator().manual_seed(4)
    classes = torch.tensor([MITOSIS, HARD_NEGATIVE] * 200)
    domains = torch.where(
        torch.rand(400, generator=generator) < 0.9,
        (classes == MITOSIS).long(),
        1 - (classes == MITOSIS).long(),
    )
    x = torch.randn(400, 8, generator=generator)
    x[:, 0] += 3.0 * (classes == MITOSIS)
    x[:, 1] += 3.0 * domains
    torch.manual_seed(0)
    body, classifier = torch.nn.Linear(8, 4), torch.nn.Linear(4, 2)
    head = ConditionalDomainHead(4, 2)
    parts = torch.nn.ModuleList([body, classifier, head])
    optimiser = torch.optim.Adam(parts.parameters(), lr=0.01)
    for _ in range(400):
        features = body(x)
        loss = torch.nn.functional.cross_entropy(classifier(features), (classes == MITOSIS).long())
        loss = loss + head(features, classes, domains, 1.0).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = (classifier(body(x)).argmax(dim=1) == (classes == MITOSIS)).float().mean()
    assert float(right) >= 0.9
