"""CROCODILE from pixels to loss.

Two branches read the same image: one names the findings y, the other the domain d the image came
from. Each gives causal embeddings Q (what its classes look at) and spurious ones Q-bar (all that
they do not look at). Losses make Q predict, Q-bar know nothing, and the prediction survive another
patient's Q-bar; the domain branch tells the disease branch what belongs to the hospital.

Shapes: B images, S pixels a side, K findings, D domains, H features, N = (S / 16)^2 tokens.
Source: CROCODILE spec sections 3 to 5; equation numbers are those of the paper as the released
code cites them (1, 2, 4 and 5; what it does not cite is taken for 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from workflow_scripts.crocodile.causality import causality_map, prior_loss, prior_matrix
from workflow_scripts.crocodile.losses import (
    FlatScorer,
    PairScorer,
    asymmetric_loss,
    class_spreads,
    image_loss,
    label_value_spread,
    mean_of,
    relation_targets,
    uniform_kl,
)
from workflow_scripts.crocodile.mixing import SharedMixing
from workflow_scripts.crocodile.protocols import CrocodileOptions
from workflow_scripts.crocodile.settings import LossWeights, Shape
from workflow_scripts.crocodile.transformer import Embeddings, Transformer
from workflow_scripts.crocodile.variants import Variant

HEADS = ("causal", "intervened", "spurious")  # what a branch predicts with


class GroupwiseLinear(nn.Module):
    """One weight vector a class: z[b, k] = sum_i W[k, i] X[b, k, i] + bias[k]."""

    def __init__(self, n_classes: int, features: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(features)
        self.weight = nn.Parameter(torch.empty(1, n_classes, features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1, n_classes).uniform_(-bound, bound))

    def forward(self, embeddings: Tensor) -> Tensor:  # (B, K, H) -> (B, K)
        """Return the logits."""
        return (self.weight * embeddings).sum(dim=-1) + self.bias


class Read(NamedTuple):
    """What one branch says of a batch; C classes (findings or domains)."""

    causal: Tensor  # logits z_x, (B, C)
    intervened: Tensor  # logits z_c-hat, (B, C)
    spurious: Tensor  # logits z_c, (B, C)
    embeddings: Embeddings  # Q and Q-bar, (B, C, H) each


class Branch(nn.Module):
    """Trunk, transformer and three heads; the mixing block in between is shared.

    Args:
        trunk: image to feature map.
        n_classes: K or D.
        shape: of the network.
        intervention: how Q and the shuffled Q-bar meet.
        options: of the protocol.
    """

    def __init__(
        self, trunk: nn.Module, n_classes: int, shape: Shape, intervention: str,
        options: CrocodileOptions,
    ) -> None:  # fmt: skip
        super().__init__()
        self.trunk = trunk
        self.query = nn.Parameter(torch.randn(n_classes, shape.features))
        self.transformer = Transformer(
            shape.features, shape.heads, shape.feed_forward, shape.encoder_layers,
            shape.decoder_layers, shape.dropout, options,
        )  # fmt: skip
        self.intervention, self.drop = intervention, shape.intervention_dropout
        width = shape.features * (2 if intervention == "concatenate" else 1)
        self.head_causal = GroupwiseLinear(n_classes, shape.features)
        self.head_intervened = GroupwiseLinear(n_classes, width)
        self.head_spurious = GroupwiseLinear(n_classes, shape.features)

    def forward(self, images: Tensor, shared: nn.Module, order: Tensor | None) -> Read:
        """Read images (B, 1, S, S); `order` (B,) says whose Q-bar each image is given."""
        feature_map = self.trunk(images)  # F (B, C, S/16, S/16)
        found: Embeddings = self.transformer(shared(feature_map), self.query)
        return Read(
            self.head_causal(found.causal),
            self.head_intervened(self.intervene(found, order)),
            self.head_spurious(found.spurious),
            found,
        )

    def intervene(self, found: Embeddings, order: Tensor | None) -> Tensor:
        """Give each image another one's spurious embeddings: the back-door intervention.

        Q + dropout(Q-bar[order]), (B, C, H); the competitor concatenates, (B, C, 2 H).
        """
        other = found.spurious if order is None else found.spurious[order]
        if self.intervention == "concatenate":
            return torch.cat([other, found.causal], dim=-1)
        return found.causal + dropout(other, self.drop, self.training)


class Outputs(NamedTuple):
    """The eleven values of a forward pass; what a variant lacks is None."""

    z_causal: Tensor  # (B, K)
    z_intervened: Tensor  # (B, K)
    z_spurious: Tensor  # (B, K)
    zd_causal: Tensor | None  # (B, D)
    zd_intervened: Tensor | None  # (B, D)
    zd_spurious: Tensor | None  # (B, D)
    q: Tensor  # (B, K, H)
    q_bar: Tensor  # (B, K, H)
    qd: Tensor | None  # (B, D, H)
    qd_bar: Tensor | None  # (B, D, H)
    causality: Tensor | None  # (B, K, K)


class Orders(NamedTuple):
    """Whose spurious embeddings each image is given in the two branches, shape (B,) each."""

    disease: Tensor
    domain: Tensor


class Crocodile(nn.Module):
    """Both branches and the mixing block that they share.

    Args:
        make_trunk: makes one trunk for each branch; has `channels`.
        n_findings: K.
        n_domains: D.
        shape: of the network.
        variant: which parts are there.
        options: of the protocol.
    """

    def __init__(
        self, make_trunk: Callable[[], nn.Module], n_findings: int, n_domains: int, shape: Shape,
        variant: Variant, options: CrocodileOptions,
    ) -> None:  # fmt: skip
        super().__init__()
        self.options, self.variant = options, variant
        self.disease = Branch(make_trunk(), n_findings, shape, variant.intervention, options)
        channels = int(self.disease.trunk.channels)  # type: ignore[arg-type]
        self.shared = SharedMixing(channels, shape.features, options)
        self.domain = (
            Branch(make_trunk(), n_domains, shape, variant.intervention, options)
            if variant.has_domain
            else None
        )

    def forward(self, images: Tensor, orders: Orders | None = None) -> Outputs:
        """Return the eleven outputs of images (B, 1, S, S) in [-1, 1]."""
        disease: Read = self.disease(images, self.shared, orders.disease if orders else None)
        q, q_bar = disease.embeddings
        causality = causality_map(q, self.options.map_shift) if self.variant.has_prior else None
        if self.domain is None:
            return Outputs(*disease[:3], None, None, None, q, q_bar, None, None, causality)
        domain: Read = self.domain(images, self.shared, orders.domain if orders else None)
        return Outputs(*disease[:3], *domain[:3], q, q_bar, *domain.embeddings, causality)

    def read(self, images: Tensor, order: Tensor | None = None) -> dict[str, Tensor]:
        """Return the findings' logits of each head, (B, K), and `causality`, (B, K, K).

        The domain branch is not run: it only regularises the training.
        """
        found: Read = self.disease(images, self.shared, order)
        logits = dict(zip(HEADS, found[:3], strict=True))
        maps = causality_map(found.embeddings.causal, self.options.map_shift)
        return logits | {"causality": maps}


class Objective(nn.Module):
    """The network with its loss, in one forward pass: what is trained.

    Args:
        model: the network.
        findings: names of the K findings, for the task prior.
        n_domains: D.
        features: H.
        weights: factors of the terms.
    """

    prior: Tensor
    relations: Tensor

    def __init__(
        self, model: Crocodile, findings: Sequence[str], n_domains: int, features: int,
        weights: LossWeights,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self.weights = model, weights
        self.options, self.variant = model.options, model.variant
        self.scorer: nn.Module | None = None
        if self.variant.has_contrast:
            n_pairs = 4 * len(findings) * n_domains
            is_flat = self.options.scorer == "flat"
            self.scorer = FlatScorer(n_pairs, features) if is_flat else PairScorer(features)
        targets = relation_targets(len(findings), n_domains, self.options.scorer_target)
        self.register_buffer("relations", targets, persistent=False)
        self.register_buffer("prior", prior_matrix(findings), persistent=False)

    def forward(
        self, images: Tensor, labels: Tensor, domains: Tensor, orders: Orders | None
    ) -> dict[str, Tensor]:
        """Return the weighted loss terms, scalars by name; the loss is their sum.

        Args:
            images: shape (B, 1, S, S), in [-1, 1].
            labels: y, 0 or 1, shape (B, K).
            domains: d, shape (B,), integer.
            orders: of the intervention.
        """
        return self.terms(full_precision(self.model(images, orders)), labels, domains)

    def judge(
        self, images: Tensor, labels: Tensor, domains: Tensor, order: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the heads' logits, the domain's under `domain`, and the batch's loss."""
        out = full_precision(self.model(images, None if order is None else Orders(order, order)))
        logits = dict(zip(HEADS, out[:3], strict=True))
        if out.zd_intervened is not None:
            logits["domain"] = out.zd_intervened.softmax(dim=1)
        return logits, total(self.terms(out, labels, domains))

    def terms(self, out: Outputs, labels: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """Return the weighted loss terms of the network's outputs."""
        terms = self.disease_terms(out, labels)  # Equation 1
        if self.variant.has_domain:
            terms |= domain_terms(out, domains)  # Equation 2
        if self.variant.has_contrast:
            terms |= {"image": self.image_term(out)}  # Equation 3, we infer
            terms |= self.batch_terms(out, labels, domains)  # Equations 4 and 5
        if out.causality is not None:
            terms |= {"prior": prior_loss(out.causality, self.prior)}
        return {name: getattr(self.weights, name) * value for name, value in terms.items()}

    def disease_terms(self, out: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """Return L_y: Q predicts, Q-bar knows nothing, and the intervention changes nothing."""
        scale = self.variant.asl_scale
        pushed = out.z_intervened if self.variant.kl_on_intervened else out.z_spurious
        return {
            "asl_causal": asymmetric_loss(out.z_causal, labels, scale=scale),
            "kl_spurious": uniform_kl(pushed),
            "asl_intervened": asymmetric_loss(out.z_intervened, labels, scale=scale),
        }

    def image_term(self, out: Outputs) -> Tensor:
        """Return the relational score of causal and spurious embeddings across the branches."""
        if self.scorer is None:
            raise ValueError("this variant has no scorer")
        scores = self.scorer(out.q, out.q_bar, out.qd, out.qd_bar)
        return image_loss(scores.to(out.q.dtype), self.relations.to(out.q.dtype))

    def batch_terms(self, out: Outputs, labels: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """Return the spreads within the batch: Q of one label and Q-bar of other labels."""
        _, _, qd, qd_bar = needed(out)
        empty = self.options.empty_group
        found = {
            "same_domain": label_value_spread(qd, domains, "same", empty),
            "different_domain": label_value_spread(qd_bar, domains, "different", empty),
        }
        if self.options.disease_groups == "label_values":
            same = label_value_spread(out.q, labels, "same", empty)
            different = label_value_spread(out.q_bar, labels, "different", empty)
        else:
            same = mean_of(class_spreads(out.q, labels, "same"), out.q)
            different = mean_of(class_spreads(out.q_bar, labels, "different"), out.q_bar)
        return {"same_disease": same, "different_disease": different, **found}


def needed(out: Outputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the domain branch's outputs that losses use; ValueError without that branch."""
    zd, zd_hat, qd, qd_bar = out.zd_causal, out.zd_intervened, out.qd, out.qd_bar
    if zd is None or zd_hat is None or qd is None or qd_bar is None:
        raise ValueError("this variant has no domain branch")
    return zd, zd_hat, qd, qd_bar


def domain_terms(out: Outputs, domains: Tensor) -> dict[str, Tensor]:
    """Return L_d: the same three aims for the domain, which is one of D."""
    zd, zd_hat, _, _ = needed(out)
    if out.zd_spurious is None:
        raise ValueError("this variant has no domain branch")
    return {
        "ce_causal": cross_entropy(zd, domains),
        "kl_domain_spurious": uniform_kl(out.zd_spurious),
        "ce_intervened": cross_entropy(zd_hat, domains),
    }


def full_precision(out: Outputs) -> Outputs:
    """Return the outputs in float32 where mixed precision made them shorter."""
    return Outputs._make(
        x.float() if x is not None and x.dtype in (torch.float16, torch.bfloat16) else x
        for x in out
    )


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the loss: the sum of the weighted terms."""
    return torch.stack(list(terms.values())).sum()
