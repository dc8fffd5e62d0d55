"""Wide and deep: which weights belong to a row, what each part can learn alone, and that a whole number never grows too large."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, RecipeError, UnknownNameError
from deepseek.fields import Kind
from deepseek.models.encoders.text_bag import FACTORS, MOST_BUCKETS, PRIMES
from deepseek.models.wide import MOST_CODES, WideCodes, pair_crosses
from deepseek.optim.optimizers import decay_groups
from deepseek.registry import family
from deepseek.tasks.model import TaskModel

QUANTILES = np.stack([np.linspace(-2, 2, 65), np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], 13)]).astype(np.float32)
TABLE = {
    "numbers": InputSpec("numbers", Kind.NUMBER, ("age", "children"), (2,), "float32", quantiles=QUANTILES),
    "codes": InputSpec("codes", Kind.CATEGORY, ("user", "item", "sex"), (3,), "int32", (90, 170, 3)),
    "flag": InputSpec("flag", Kind.BINARY, ("flag",), (1,), "float32"),
}
BINARY = TargetSpec("binary", ("y",), ("no", "yes"), (1, 1), 2)
THREE = TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3)


def codes_of(crosses, *, buckets=65_536, bins=10, inputs=TABLE):
    return WideCodes(inputs, crosses=crosses, buckets=buckets, bins=bins)


def rows(*columns):
    """A batch of `user, item, sex`, the other columns zero."""
    count = len(columns[0])
    codes = torch.tensor(columns, dtype=torch.int32).T.contiguous()
    return {"numbers": torch.zeros(count, 2), "codes": codes, "flag": torch.zeros(count, 1)}


def grid():
    users, items = zip(*itertools.product(range(90), range(170)), strict=True)
    return rows(users, items, [1] * len(users))


def build(task="binary", target=BINARY, **settings):
    torch.manual_seed(0)
    network = family("model").build({"type": "wide_deep", "width": 16, "depth": 1, "dropout": 0.0, **settings}, TABLE, {})
    return TaskModel(network, family("task").build(task, target))


class TestCodes:
    def test_a_cross_has_a_weight_for_each_combination_where_there_is_room(self):
        codes = codes_of([["user", "item"], ["sex", "user"]])
        found = codes(grid())
        assert codes.rows == 90 + 170 + 3 + 90 * 170 + 3 * 90
        assert len(found[:, 3].unique()) == 90 * 170
        assert found[:, :3].max() < 263 <= found[:, 3].min()
        assert found[:, 3].max() < 263 + 90 * 170 <= found[:, 4].min()
        assert found.max() < codes.rows

    def test_hashed_combinations_share_weights_as_chance_would_have_it(self):
        found = codes_of([["user", "item"]], buckets=4096)(grid())[:, 3] - 263
        assert found.min() >= 0
        assert found.max() < 4096
        counts = torch.bincount(found, minlength=4096).double()
        mean = 90 * 170 / 4096
        assert (counts - mean).square().mean() < 1.5 * mean  # a Poisson count has its mean for variance

    def test_combinations_that_share_a_weight_are_counted(self):
        codes = codes_of([["user", "item"], ["sex", "user"], ["age", "item"]], buckets=1000)
        batch = {**grid(), "numbers": torch.linspace(-2, 2, 90 * 170)[:, None].repeat(1, 2)}
        found = codes.hashed(batch)
        assert set(found) == {("user", "item"), ("age", "item")}  # the sexes' users have a weight each
        assert torch.equal(found["user", "item"][:, :2], batch["codes"][:, :2])
        assert torch.equal(found["user", "item"][:, 2].long(), codes(batch)[:, 3])
        assert torch.equal(found["age", "item"][:, 2].long(), codes(batch)[:, 4])

    def test_the_hash_is_what_it_says_and_whole_numbers_stay_below_2_to_the_23(self):
        triples = torch.randint(0, 90, (50,)), torch.randint(0, 170, (50,)), torch.randint(0, 3, (50,))
        found = codes_of([["user", "item", "sex"]], buckets=1000)(rows(*(one.tolist() for one in triples)))[:, 3]
        for row, triple in zip(found.tolist(), zip(*(one.tolist() for one in triples), strict=True), strict=True):
            values = [triple[0] % prime for prime in PRIMES]
            for code in triple[1:]:
                values = [(value * factor + code + 1) % prime for value, factor, prime in zip(values, FACTORS, PRIMES, strict=True)]
            assert row == 263 + (values[0] * PRIMES[1] + values[1]) % 1000
        assert max(PRIMES) * max(FACTORS) + MOST_CODES <= 2**23
        assert PRIMES[0] * PRIMES[1] < 2**23
        assert MOST_BUCKETS < 2**23

    @pytest.mark.parametrize("wide", [(MOST_CODES + 1, 3), (5_000_000, 5_000_000)])
    def test_more_codes_or_weights_than_can_be_told_apart_are_refused(self, wide):
        spec = {"codes": InputSpec("codes", Kind.CATEGORY, ("a", "b"), (2,), "int32", wide)}
        with pytest.raises(InputError, match=r"is crossed|weights"):
            codes_of([["a", "b"]], inputs=spec, buckets=10)

    def test_numbers_are_crossed_by_quantiles_and_never_cut_at_a_value(self):
        codes = codes_of([["children", "sex"], ["age", "flag"]], bins=10)
        batch = rows([0] * 5, [0] * 5, [0] * 5)
        batch["numbers"] = torch.tensor([[-9.0, 0.0], [-1.0, 1.0], [0.0, 2.0], [1.0, 3.0], [float("inf"), 9.0]])
        found = codes(batch)
        assert len(found[:, 3].unique()) == len(found[:, 4].unique()) == 5
        nudged = {**batch, "numbers": batch["numbers"] + 1e-4}
        assert torch.equal(codes(nudged)[:, 3], found[:, 3])
        assert found.max() < codes.rows

    def test_pairs_with_few_combinations_come_first(self):
        assert pair_crosses(TABLE, 9) == [("user", "sex"), ("item", "sex"), ("user", "item")]
        assert pair_crosses(TABLE, 1) == [("user", "sex")]

    @pytest.mark.parametrize(
        ("cross", "error"), [(["user", "itm"], UnknownNameError), (["user", "user"], InputError), (["user", "sex", "user"], InputError)]
    )
    def test_what_is_no_cross_is_refused(self, cross, error):
        with pytest.raises(error):
            codes_of([cross])

    def test_a_number_without_quantiles_is_not_crossed(self):
        spec = {**TABLE, "numbers": InputSpec("numbers", Kind.NUMBER, ("age", "children"), (2,), "float32")}
        with pytest.raises(InputError, match="no quantiles"):
            codes_of([["age", "user"]], inputs=spec)


class TestModel:
    def test_the_wide_part_adds_its_weights_to_the_decision(self):
        model, batch = build("multiclass", THREE, crosses=[["user", "item"]]).eval(), rows([3, 4], [5, 6], [1, 2])
        batch["numbers"] = torch.tensor([[0.5, 1.0], [2.0, -1.0]])
        before = model(batch)
        assert torch.equal(before, model.head(model.network(batch)))  # it begins at zero
        torch.nn.init.normal_(model.beside.weight)
        torch.nn.init.normal_(model.beside.slope)
        expected = model.beside.weight[model.beside.codes(batch)].sum(dim=1)
        expected = expected + torch.cat((batch["numbers"], batch["flag"]), dim=1) @ model.beside.slope
        torch.testing.assert_close(model(batch), before + expected.unsqueeze(1))

    def test_each_part_can_be_left_out(self):
        batch = rows([3, 4], [5, 6], [1, 2])
        alone = build(wide=False)
        assert alone.beside is None
        assert {name.split(".")[0] for name, _ in alone.named_parameters()} == {"network", "head"}
        linear = build(deep=False)
        torch.testing.assert_close(linear(batch), linear.head.bias.expand(2, 1, 1))
        assert not list(linear.network.parameters())
        with pytest.raises(InputError, match="without wide and without deep"):
            build(wide=False, deep=False)

    def test_features_are_the_networks_and_the_wide_part_adds_nothing_to_them(self):
        model, batch = build("embedding", TargetSpec("features", ())).eval(), rows([3, 4], [5, 6], [1, 2])
        assert model.beside is None
        torch.testing.assert_close(model.predict(batch)["features"], model.network(batch).squeeze(1))

    def test_the_wide_part_alone_would_not_see_an_image(self):
        photo = InputSpec("photo", Kind.IMAGE, ("photo",), (3, 8, 8), "float32")
        with pytest.raises(InputError, match="photo"):
            family("model").build({"type": "wide_deep", "deep": False}, {**TABLE, "photo": photo}, {})
        with pytest.raises(InputError, match="no column of a table"):
            TaskModel(family("model").build("wide_deep", {"photo": photo}, {}), family("task").build("binary", BINARY))

    @pytest.mark.parametrize(("crosses", "learns"), [([["user", "item"]], True), ([], False)])
    def test_only_a_cross_lets_a_linear_model_learn_what_neither_column_says(self, crosses, learns):
        batch = rows([user for user in range(4) for _ in range(4)], list(range(4)) * 4, [0] * 16)
        target = ((batch["codes"][:, 0] + batch["codes"][:, 1]) % 2).float()
        model = build(deep=False, crosses=crosses)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(60):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(model(batch).flatten(), target).backward()
            optimizer.step()
        right = ((model(batch).flatten() > 0) == (target > 0.5)).float().mean()
        assert (right == 1) == learns

    def test_its_weights_are_decayed_and_learn_at_a_rate_of_their_own(self):
        groups = decay_groups(build(wide_rate=3.0))
        wide = [group for group in groups if group["learning_rate_factor"] == 3.0]
        assert [group["regularise"] for group in wide] == [True]
        assert sum(parameter.shape[0] for parameter in wide[0]["params"]) == build().beside.codes.rows + 3

    def test_keys_are_checked(self):
        with pytest.raises(RecipeError):
            family("model").validate({"type": "wide_deep", "crosses": [["user"]]})
        with pytest.raises(RecipeError):
            family("model").validate({"type": "wide_deep", "buckets": MOST_BUCKETS + 1})
