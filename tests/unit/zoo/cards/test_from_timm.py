"""timm's models are models here, where timm is installed; where it is not, that is said."""

import importlib.util

import pytest
import torch

import zoo
from zoo.audit import audit

with_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed (an extra)")
without_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")


@without_timm
def test_timms_models_need_timm():
    for use in (zoo.card, zoo.names):
        with pytest.raises(ValueError, match=r"timm:NAME need timm: pip install 'menagerie\[timm\]'"):
            use("timm:resnet18")


@with_timm
def test_the_pretrained_configuration_is_the_card():
    card = zoo.card("timm:resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k")
    ours = zoo.card("ssl_resnext50_32x4d")
    assert card.preprocessing == ours.preprocessing
    assert card.params == ours.params
    assert card.weights is not None
    assert ours.weights is not None
    assert (card.weights.location, card.weights.sha256) == (ours.weights.location, ours.weights.sha256)
    assert card.weights.license == "cc-by-nc-4.0"


@with_timm
def test_the_test_size_is_the_one_that_timms_validation_uses():
    shape = zoo.card("timm:resnet18.a1_in1k").preprocessing
    assert (shape.size, shape.crop_pct, shape.interpolation) == (288, 1.0, "bicubic")


@with_timm
@torch.inference_mode()
@pytest.mark.parametrize("name", ["selecsls42b", "res2next50", "resnest14d", "resnest50d_4s2x40d"])
def test_ours_on_timms_weights_are_timms(name: str):
    theirs, ours = zoo.create(f"timm:{name}").eval(), zoo.create(name).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 97, 75, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-4 * float(theirs(x).std()))
    findings = {finding.what: finding.computed for finding in audit(zoo.card(f"timm:{name}"))}
    assert findings["parameters"] == zoo.card(name).params


@with_timm
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nosuch", "timm has no model 'nosuch'"),
        ("resnet18.nonsense", r"timm has no model 'resnet18\.nonsense'"),
        ("vit_small_patch14_dinov2", "expected a model with one classifier"),
        ("deit_base_distilled_patch16_224", "expected a model with one classifier"),
    ],
)
def test_what_is_not_there_or_has_no_single_classifier_is_refused(name: str, told: str):
    with pytest.raises(ValueError, match=told):
        zoo.card(f"timm:{name}")
