"""Every public name has a measured effect or a stated reason, and pages and cards state what was measured."""

import importlib
import json

import keras
import numpy as np
import pytest
from harness import ROOT, only, public_objects

import keras_reg

PUBLISHED = ROOT / "docs" / "results" / "effects.json"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


@pytest.fixture
def published(example):
    """(found, rows) of the published results."""
    found = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return found, example("effects_results").rows(found, example("effects_methods").EFFECTS)


def words(path):
    return " ".join((ROOT / "docs" / path).read_text(encoding="utf-8").split())


@pytest.mark.once
def test_every_public_name_is_measured_or_has_a_reason(example):
    methods = example("effects_methods")
    names = [name.rsplit(".", 1)[1] for name in public_objects()]
    measured = {effect.method for effect in methods.EFFECTS}
    assert sorted([*measured, *methods.ELSEWHERE]) == sorted(names)


@pytest.mark.once
def test_every_effect_was_measured_with_three_seeds(example, published):
    _, rows = published
    assert [row["effect"] for row in rows] == example("effects_methods").EFFECTS
    assert {len(row[key]) for row in rows for key in ("with", "without")} == {3}


@pytest.mark.once
def test_strengths_and_learning_rates_were_chosen_on_other_splits(example, published):
    """The best one on the splits that choose is the one that the file names as chosen."""
    effects, (found, _) = example("effects"), published

    def mean(by_seed, measure):
        return np.mean([by_seed[str(seed)][measure] for seed in effects.SPLITS_TO_CHOOSE])

    for effect in example("effects_methods").EFFECTS:
        if effect.strength_of:
            assert found["chosen"][effect.name] == found["chosen"][effect.strength_of]
            continue
        rate = found["rates"][effect.setting]
        for recipes, chosen in zip((effect.baseline, effect.candidates), found["chosen"][effect.name], strict=True):
            runs = {label: found["runs"][f"{effect.setting} | {label} | {rate}"] for label in recipes}
            if len(runs) > 1:
                means = {label: mean(by_seed, effect.measure) for label, by_seed in runs.items()}
                assert means[chosen] == max(means.values()), effect.name
    for name in {effect.setting for effect in example("effects_methods").EFFECTS}:
        setting = example("effects_settings").SETTINGS[name]
        runs = {rate: found["runs"][f"{name} | {effects.PLAIN} | {rate}"] for rate in setting.rates}
        assert found["rates"][name] == max(setting.rates, key=lambda rate, runs=runs: mean(runs[rate], "test"))
    assert not set(effects.SEEDS) & set(effects.SPLITS_TO_CHOOSE)


@pytest.mark.once
def test_the_page_states_the_results(example, published):
    results, (found, rows) = example("effects_results"), published
    page = (ROOT / "docs" / "effects.md").read_text(encoding="utf-8")
    for expected in (results.baselines(found), results.table(rows), results.elsewhere()):
        assert expected in page, f"`python examples/effects.py --show --json {PUBLISHED.relative_to(ROOT)}`\n{expected}"
    seconds = sum(run["cpu_seconds"] for by_seed in found["runs"].values() for run in by_seed.values())
    assert f"they take about {seconds / 60:.0f} minutes of processor time" in words("effects.md")


@pytest.mark.once
def test_cards_state_the_results(example, published):
    """Where this fails: `python examples/effects.py --show --json docs/results/effects.json` prints the sentences."""
    sentence = example("effects_results").sentence
    files = {path.stem.replace("_", ""): path for path in (ROOT / "docs" / "methods").glob("*.md")}
    for row in published[1]:
        method = row["effect"].method
        card = files["regularize" if method == "exclude_from_weight_decay" else method.lower().replace("_", "")]
        assert sentence(row) in words(card), f"{card.name}: {sentence(row)}"


@pytest.mark.once
def test_the_guide_tests_an_effect_as_the_program_does(example, published):
    """The program on the page, with the accuracies of DropBlock2D."""
    row = next(row for row in published[1] if row["effect"].method == "DropBlock2D")
    page = words("which.md")
    for key in ("without", "with"):
        assert f"np.array([{', '.join(f'{value:.2f}' for value in row[key])}])" in page
    assert f"evaluated = {example('effects_settings').SETTINGS[row['effect'].setting].tested} " in page


@pytest.mark.once
def test_an_effect_is_clear_if_all_seeds_agree_by_more_than_two_standard_errors(example):
    verdict = example("effects_results").verdict
    without = np.array([90.0, 93.0, 91.0])
    assert verdict(without, without + np.array([3, 2, 4]), 1700) == "better"
    assert verdict(without, without - np.array([3, 2, 4]), 1700) == "worse"
    assert verdict(without, without + np.array([9, 9, -0.1]), 1700) == "no clear effect"
    assert verdict(without, without + np.array([9, 9, 0]), 1700) == "no clear effect"
    assert verdict(without, without + 0, 1700) == "none"
    # At 95 %, two standard errors of a difference of means of 3 x 1200 images are 1.03 points.
    plain = np.full(3, 94.0)
    assert verdict(plain, plain + 1.01, 1200) == "no clear effect"
    assert verdict(plain, plain + 1.05, 1200) == "better"


@pytest.mark.once
def test_light_changes_all_channels_of_an_image_and_noise_is_half_of_the_deviation_of_a_kernel(example):
    settings, changes = example("effects_settings"), example("effects_images")
    images = np.random.default_rng(0).uniform(0.2, 0.4, (6, 4, 4, 3)).astype("float32")
    ratios = changes.relit(images) / images
    assert np.ptp(ratios, axis=(1, 2)).max() < 1e-5 < np.ptp(ratios, axis=0).max()
    assert changes.smaller(images).shape == (6, 2, 2, 3)
    np.testing.assert_allclose(changes.smaller(images)[1, 0, 1], images[1, :2, 2:].mean((0, 1)), rtol=1e-5)
    network = settings.SETTINGS[settings.DENSE].network((8, 8, 1), 10)
    before = [keras.ops.convert_to_numpy(weight) for weight in network.weights]
    assert len(list(settings.perturbed(network))) == 10
    for weight, values in zip(network.weights, before, strict=True):
        noise = keras.ops.convert_to_numpy(weight) - values
        expected = 0.5 * values.std() if weight.path.endswith("kernel") else 0
        assert noise.std() == pytest.approx(expected, rel=0.05)


@pytest.mark.once
def test_changed_test_images_are_what_the_page_says(example):
    changes, random = example("effects_images"), np.random.default_rng(0)
    images = random.uniform(0.4, 0.6, (40, 16, 16, 3)).astype("float32")
    for name, change in {"gray": changes.gray, "turned": changes.turned, **changes.WORSE}.items():
        changed = change(images)
        assert changed.shape == images.shape and changed.dtype == "float32", name
        np.testing.assert_array_equal(change(images), changed)  # the same for all methods
    assert (changes.noisy(images) - images).std() == pytest.approx(0.1, rel=0.02)
    dot = np.zeros((1, 17, 17, 1), "float32")
    dot[0, 8, 8] = 1
    (spread,) = changes.blurred(dot)[..., 0]
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert (spread * (np.arange(17) - 8) ** 2).sum() == pytest.approx(1, rel=0.02)  # the variance along one axis
    np.testing.assert_allclose(changes.gray(images)[..., 2], images.mean(-1), rtol=1e-6)
    np.testing.assert_allclose(changes.pale(images).std(), 0.4 * images.std(), rtol=1e-4)
    np.testing.assert_allclose(
        changes.coarse(images)[3, 4:6, 6:8], np.full((2, 2, 3), 1) * images[3, 4:6, 6:8].mean((0, 1)), rtol=1e-5
    )
    bar = np.zeros((200, 17, 17, 1), "float32")
    bar[:, 2:15, 8] = 1
    rows, columns = np.mgrid[-8:9, -8:9]
    moments = [
        (x[..., 0] * m).sum((1, 2)) for x in [changes.turned(bar)] for m in (columns**2 - rows**2, 2 * columns * rows)
    ]
    angles = np.rad2deg(np.arctan2(moments[1], -moments[0])) / 2
    assert (
        28 < np.abs(angles).max() < 31
        and abs(angles.mean()) < 3
        and angles.std() == pytest.approx(30 / 3**0.5, rel=0.1)
    )
    found = changes.accuracies(lambda x: float(x.mean()), changes.WORSE, images)
    assert found["worse"] == pytest.approx(np.mean([change(images).mean() for change in changes.WORSE.values()]))
    assert changes.accuracies(len, {"gray": changes.gray}, images) == {"gray": 40}


@pytest.mark.once
def test_labels_of_pixel_methods_are_the_code_of_their_layers(example):
    for effect in example("effects_pixels").PIXELS:
        for label, recipe in effect.candidates.items():
            (made,), written = recipe.augmentation(), eval(label, vars(keras_reg.layers))
            configs = [{**layer.get_config(), "name": None} for layer in (made, written)]
            assert configs[0] == configs[1] and type(made) is type(written), label


@pytest.mark.once
def test_unlabeled_images_come_without_labels_and_do_not_change_the_weight_of_labeled_ones(example):
    settings, digits = example("effects_settings"), example("digits")
    setting = settings.SETTINGS[settings.SEMI]
    found, known = settings.data_of(setting, 3), digits.load(50, 3)
    weights = settings.sample_weights(setting, found)
    labeled = weights > 0
    assert len(found.x_test) == len(found.y_test) == setting.tested == 747
    np.testing.assert_array_equal(found.x_train[labeled], np.tile(known.x_train, (20, 1, 1, 1)))
    np.testing.assert_array_equal(found.y_train[labeled], np.tile(known.y_train, 20))
    np.testing.assert_array_equal(found.x_train[~labeled], known.x_test[:1000])
    np.testing.assert_array_equal(found.x_test, known.x_test[1000:])
    assert not found.y_train[~labeled].any() and weights.mean() == 1
    assert settings.sample_weights(settings.SETTINGS[settings.FEW], known) is None


@pytest.mark.once
def test_wrong_labels_are_those_of_the_training_images_only(example):
    settings, digits = example("effects_settings"), example("digits")
    setting = settings.SETTINGS[settings.WRONG]
    found, known = settings.data_of(setting, 3), digits.load(400, 3)
    assert (found.y_train != known.y_train).mean() == 0.4 and (found.clean == known.y_train).all()
    np.testing.assert_array_equal(found.y_test, known.y_test)


@pytest.mark.once
def test_a_recipe_is_the_network_itself_or_a_model_with_its_parts(example):
    effects, steps, recipes = example("effects"), example("effects_steps"), example("effects_recipes")
    network, images = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), np.zeros((2, 4))
    assert effects.regularized(network, recipes.Recipe(), images, 0) is network
    for label, recipe in {**steps.SHARPNESS, **steps.ADVERSARIAL, **steps.CONFIDENCE, **steps.CONSISTENT}.items():
        model = effects.regularized(network, recipe, images, 0)
        found = [model.sharpness, *model.penalties]
        part = next(part for part in found if part is not None)
        assert label.split("(")[0] == type(part).__name__ and len(found) - found.count(None) == 1
        strength = getattr(
            part, {"SharpnessAware": "rho", "VirtualAdversarial": "epsilon"}.get(type(part).__name__, "weight")
        )
        assert label.split("(")[1].split(")")[0].split(",")[0] == str(strength)
        assert ("adaptive" in label) == getattr(part, "adaptive", False)


@only("torch")
def test_runs_are_saved_and_not_made_again(example, tmp_path, monkeypatch, capsys):
    effects, given = example("effects"), ["--smoke", "--only", "persist", "--json", str(tmp_path / "effects.json")]
    given += ["--out", str(tmp_path / "effects.png")]
    few = example("digits").load(32, 0)
    monkeypatch.setattr(effects, "data_of", lambda *_: few._replace(x_test=few.x_test[:50], y_test=few.y_test[:50]))
    (row,) = effects.main(given)
    assert row["verdict"] == "none"  # the same training, interrupted and resumed
    assert (tmp_path / "effects.png").stat().st_size > 5_000
    monkeypatch.setattr(effects, "run", None)
    (again,) = effects.main(given)
    assert again["with"] == row["with"] and "persist and an interruption" in capsys.readouterr().out
