import dataclasses
import json
import math
import statistics

import pytest
import torch

from lpsnet.ablation import cli, execute, training
from lpsnet.ablation.catalogue import ABLATIONS, METRICS, Row, Scoring, get_ablation
from lpsnet.ablation.plan import plan
from lpsnet.ablation.results import Result
from lpsnet.ablation.table import cells, markdown, mean_and_deviation, print_table
from lpsnet.config import RECIPES, get_recipe
from lpsnet.fields import differences, replaced
from lpsnet.training.divergence import TrainingDiverged

TINY = [
    *("--recipe", "lpsnet_tiny_synthetic", "--no-pretrained", "--limit", "2", "--train-limit", "4", "--threads", "1"),
    *("--set", "model.fpn_channels=16", "model.ppm_channels=8", "model.box_channels=16", "model.semantic_channels=16"),
    *("--set", "train.batch_size=2", "train.workers=0", "train.warmup=1", "train.checkpoint_every=2"),
]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(*args: str) -> int | None:
    """The exit code; None where the command just returns."""
    try:
        cli.main([*args])
    except SystemExit as stop:
        return stop.code
    return None


@pytest.fixture
def trainings(monkeypatch) -> list[tuple]:
    """The calls of `train` that a command makes: (folder, resumed)."""
    calls = []

    def counted(model, dataset, output, **kwargs):
        calls.append((output.relative_to(output.parents[1]).as_posix(), kwargs["resume"]))
        return train(model, dataset, output, **kwargs)

    train = training.train
    monkeypatch.setattr(training, "train", counted)
    return calls


def test_one_training_scored_three_ways(tmp_path, trainings):
    command = ["assignment", "--output", str(tmp_path), *TINY, "--set", "train.iterations=2", "--seeds", "0", "1"]
    assert run(*command) is None
    assert trainings == [("base/seed0", False), ("base/seed1", False)]
    table = (tmp_path / "assignment.md").read_text()
    assert "**assignment: " in table
    assert "| Closest Border-ness | 39.1 | 43.9 | 30.1 |" in table
    assert "lpsnet_tiny_synthetic on 2 images of synthetic val, 2 steps of 2 images" in table
    rows = {
        "Smallest Area": "val.postprocess.assignment=smallest_area.json",
        "Highest Confidence": "val.postprocess.assignment=highest_confidence.json",
        "Closest Border-ness": "val.json",
    }
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()}
    for label, file in rows.items():
        runs = [json.loads((tmp_path / "base" / f"seed{seed}" / file).read_text()) for seed in (0, 1)]
        assert [r["recipe"]["train"]["seed"] for r in runs] == [0, 1]
        mious = [r["metrics"]["miou"] for r in runs]
        assert f" | {statistics.mean(mious):.1f} ± {statistics.stdev(mious):.1f} | " in lines[label]
        assert lines[label].endswith(" | 2 |")
    # All is done: nothing is trained, and the table is the same.
    assert run(*command) is None
    assert len(trainings) == 2
    assert (tmp_path / "assignment.md").read_text() == table
    # Another split is scored with the models that are there, and another ablation finds the base model.
    assert run(*command, "--splits", "test") is None
    assert "synthetic test" in (tmp_path / "assignment.md").read_text()
    assert trainings[2:] == [("base/seed0", True), ("base/seed1", True)]
    del trainings[:]
    assert run("positives", *command[1:]) is None
    assert trainings == [("targets.positives=box/seed0", False), ("targets.positives=box/seed1", False)]


def test_ways_to_test_share_one_training(tmp_path, trainings, monkeypatch):
    tests = []

    class Noted(execute.Predictor):
        def __init__(self, model, device, config, *test):
            tests.append(test)
            super().__init__(model, device, config, *test)

    monkeypatch.setattr(execute, "Predictor", Noted)
    command = ["--output", str(tmp_path), *TINY, "--set", "train.iterations=2"]
    assert run("oracle", *command) is None
    assert run("multiscale", *command) is None
    assert trainings == [("base/seed0", False), ("base/seed0", True)]
    one = (1.0,)
    assert tests == [
        (one, False, None),
        (one, False, "semantic"),
        (one, False, "boxes"),
        ((0.75, 1.0, 1.25), True, None),
    ]
    names = {path.name for path in (tmp_path / "base" / "seed0").glob("val*.json")}
    assert names == {
        "val.json",
        "val.test.oracle=semantic.json",
        "val.test.oracle=boxes.json",
        "val.test.flip=True+test.scales=0.75x1.0x1.25.json",
    }
    results = {name: json.loads((tmp_path / "base" / "seed0" / name).read_text()) for name in names}
    # The truth goes to the panoptic head: what the network itself is scored by stays.
    own, told = results["val.json"]["metrics"], results["val.test.oracle=semantic.json"]["metrics"]
    assert (told["miou"], told["box_ap"]) == (own["miou"], own["box_ap"])
    # A network of two steps finds no stuff; the true labels are all of it, but for segments below the area limit.
    assert own["pq_stuff"] < 50 < told["pq_stuff"]
    many = results["val.test.flip=True+test.scales=0.75x1.0x1.25.json"]
    assert many["test"] == {"scales": [0.75, 1.0, 1.25], "flip": True, "oracle": None}


def test_a_stopped_run_goes_on(tmp_path, capsys, trainings, monkeypatch):
    def command(folder):
        return ["positives", "--output", str(tmp_path / folder), *TINY, "--set", "train.iterations=4"]

    assert run(*command("whole")) is None
    show = execute.Runner.result

    def stopped(self, one, split, on_progress):
        def stop(doing, done, total):
            if doing == "training" and done == 3 and one.folder.parent.name == "base":
                raise KeyboardInterrupt

        return show(self, one, split, stop)

    with monkeypatch.context() as patch:
        patch.setattr(execute.Runner, "result", stopped)
        assert run(*command("cut")) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    del trainings[:]
    assert run(*command("cut")) is None
    assert trainings == [("base/seed0", True)]
    for file in ("base/seed0/val.json", "targets.positives=box/seed0/val.json"):
        whole, cut = (json.loads((tmp_path / name / file).read_text()) for name in ("whole", "cut"))
        assert whole["metrics"] == cut["metrics"]
        assert whole["per_class"] == cut["per_class"]


def test_two_processes_train_as_one(tmp_path):
    recipe = get_recipe("lpsnet_tiny_synthetic")
    small = {"fpn_channels": 16, "ppm_channels": 8, "box_channels": 16, "semantic_channels": (16,)}
    few = {"iterations": 2, "batch_size": 2, "workers": 0, "warmup": 1}
    settings = {f"model.{k}": v for k, v in small.items()} | {f"train.{k}": v for k, v in few.items()}
    order = training.Order(replaced(recipe, settings), None, 4, "cpu", False, None)
    steps: list[int] = []
    models = (
        training.train_here(order, tmp_path / "one", steps.append),
        training.train_in_processes(order, tmp_path / "two", 2, lambda _: None),
    )
    assert steps == [1, 2]
    logs = [[json.loads(line) for line in (tmp_path / n / "log.jsonl").open()] for n in ("one", "two")]
    assert [[line["total"] for line in log] for log in logs][1] == pytest.approx(
        [x["total"] for x in logs[0]], rel=0.01
    )
    assert all(not model.training for model in models)
    assert differences(models[0].recipe, models[1].recipe) == []
    with pytest.raises(RuntimeError, match=r"a process of the training in .* failed"):
        training.train_in_processes(dataclasses.replace(order, data="nowhere"), tmp_path / "bad", 1, lambda _: None)


def test_the_last_step_of_a_log(tmp_path):
    log = tmp_path / "log.jsonl"
    assert training._last_step(log) == 0
    for text, step in (("", 0), ('{"step": 1', 0), ('{"step": 1}\n', 1), ('{"step": 1}\n{"step": 2}\n{"st', 2)):
        log.write_text(text)
        assert training._last_step(log) == step


def test_a_run_that_fails_leaves_the_others(tmp_path, capsys, monkeypatch):
    train = training.train

    def failing(model, dataset, output, **kwargs):
        if model.recipe.model.context == "gap":
            raise TrainingDiverged("the loss is nan")
        return train(model, dataset, output, **kwargs)

    monkeypatch.setattr(training, "train", failing)
    assert run("context", "--output", str(tmp_path), *TINY, "--set", "train.iterations=1") == 1
    captured = capsys.readouterr()
    assert "lpsnet-ablation: 1/3 Global Average Pooling, seed 0 failed: the loss is nan" in captured.err
    rows = {line.split("|")[1].strip(): line for line in (tmp_path / "context.md").read_text().splitlines()[4:7]}
    assert rows["Global Average Pooling"].endswith("| 36.5 | 51.2 | - | - | - | - | - | - | 0 |")
    assert rows["With PPM"].endswith(" | 1 |")
    assert rows["Without PPM"].endswith(" | 1 |")


def test_results_of_other_settings_are_refused_before_training(tmp_path, capsys, trainings):
    command = ["positives", "--output", str(tmp_path), *TINY]
    assert run(*command, "--set", "train.iterations=1") is None
    (tmp_path / "targets.positives=box" / "seed0" / "val.json").unlink()
    del trainings[:]
    assert run(*command, "--set", "train.iterations=2", "--limit", "3") == 1
    error = capsys.readouterr().err
    assert "base/seed0/val.json to be a result of the same settings" in error
    assert "differs in ['recipe.train.iterations', 'limit']" in error
    assert trainings == []
    (tmp_path / "base" / "seed0" / "val.json").write_text("{}")
    assert run(*command, "--set", "train.iterations=1") == 1
    assert "expected the result of a run, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "expected the name of an ablation and --output FOLDER"),
        (["anchors", "--output", "x"], "ablation: expected one of ['assignment', "),
        (["context", "--output", "x", "--recipe", "upsnet"], "recipe: expected one of"),
        (["context", "--output", "x", "--set", "train.iterations=many"], "train.iterations: expected int, got 'many'"),
        (["context", "--output", "x", "--set", "train.seed=1"], "expected the seed in --seeds, got train.seed"),
        (["context", "--output", "x", "--processes", "0"], "processes: expected at least 1, got 0"),
        (["context", "--output", "x", "--backbone-weights", "r", "--no-pretrained"], "--pretrained only"),
        (["context", "--output", "x", "--seeds", "1", "1"], "seeds: expected at least one and each once, got [1, 1]"),
        (["context", "--output", "x", "--recipe", "lpsnet_lite0_camvid"], "root: expected the folder of camvid"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    assert run(*args) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("lpsnet-ablation: ")
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_list_shows_every_ablation(capsys):
    assert run("--list") is None
    out = capsys.readouterr().out
    for name, ablation in ABLATIONS.items():
        assert name in out
        assert ablation.title in out


@pytest.mark.parametrize("ablation", sorted(ABLATIONS))
@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_rows_are_recipes(ablation, recipe, tmp_path):
    base = get_recipe(recipe)
    rows = get_ablation(ablation).rows(base)
    recipes = [(replaced(base, row.overrides), row.test) for row in rows]
    assert len({row.label for row in rows}) == len(rows) >= 2
    assert len({json.dumps([r.to_dict(), vars(test)]) for r, test in recipes}) == len(rows)
    assert all(set(row.paper) <= set(METRICS) for row in rows)
    # The base is one of the rows, but for an augmentation that it does not have.
    changed = [differences(base, r) for r, test in recipes if test == Scoring()]
    assert [] in changed
    folders = [run.folder for run in plan(base, rows, (0, 1), tmp_path)]
    trained = {json.dumps(run.trained.to_dict()) for run in plan(base, rows, (0, 1), tmp_path)}
    assert len(set(folders)) == len(trained)


def test_the_papers_numbers():
    """Typed from Tables 1, 3, 5 and 6 once more."""
    coco = get_recipe("lpsnet_r50_coco_800")

    def column(name: str, key: str) -> list[float | None]:
        return [row.paper.get(key) for row in get_ablation(name).rows(coco)]

    assert column("context", "miou") == [51.2, 50.9, 54.5]
    assert column("context", "pq") == [36.5, 35.7, 39.1]
    assert column("assignment", "pq") == [38.9, 39.0, 39.1]
    assert column("assignment", "pq_thing") == [43.5, 43.6, 43.9]
    assert column("assignment", "pq_stuff") == [30.0, 30.0, 30.1]
    assert column("input_size", "pq") == [39.1, 41.9, 42.4]
    assert column("input_size", "pq_thing") == [43.9, 46.3, 48.0]
    assert column("input_size", "pq_stuff") == [30.1, 32.5, 35.8]
    assert column("input_size", "miou") == [54.5, 56.1, 59.8]
    assert column("input_size", "box_ap") == [39.2, 39.4, 39.5]
    assert column("input_size", "mask_ap") == [26.8, 29.6, 31.5]
    assert column("oracle", "pq") == [39.1, 74.1, 53.0]
    assert column("oracle", "mask_ap") == [26.8, 47.0, 51.8]
    assert column("multiscale", "pq") == [59.7, 60.5]
    assert column("multiscale", "miou") == [78.1, 80.8]
    for name in ("positives", "borderness", "deform", "photometric"):
        assert set(column(name, "pq")) == {None}


def test_sizes_of_a_coco_recipe_are_the_papers():
    rows = get_ablation("input_size").rows(get_recipe("lpsnet_r50_coco_800"))
    for row, name in zip(rows, ("800", "882", "964"), strict=True):
        recipe = get_recipe(f"lpsnet_r50_coco_{name}")
        assert row.overrides == {"input.short_side": recipe.input.short_side, "input.max_side": recipe.input.max_side}


def test_cells():
    def result(**metrics):
        return Result({**dict.fromkeys(METRICS, math.nan), **metrics}, {}, 1, 0.0)

    rows = [Row("a", {}, {"pq": 10.0}), Row("b", {})]
    heads, body = cells(rows, {"a": [result(pq=1.0, miou=4.0), result(pq=2.0)], "b": []})
    expected = ["", "PQ, paper", "PQ, ours", "PQ_th, ours", "PQ_st, ours", "mIoU, ours"]
    assert heads[:6] == expected
    assert heads[6:] == ["box AP, ours", "mask AP, ours", "seeds"]
    assert body[0] == ["a", "10.0", "1.5 ± 0.7", "-", "-", "4.0", "-", "-", "2"]
    assert body[1] == ["b", *["-"] * 7, "0"]
    page = markdown("title", "caption", heads, body).splitlines()
    assert page[:2] == ["**title**", ""]
    assert page[-1] == "caption"
    assert {line.count("|") for line in page[2:6]} == {len(heads) + 1}


def test_a_narrow_terminal_cuts_nothing_off(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    heads = ["", *(f"metric {i}, ours" for i in range(8))]
    print_table("title", "caption", heads, [["a label of some length", *(f"{i}0.1 ± 0.2" for i in range(8))]])
    out = capsys.readouterr().out
    assert all(f"{i}0.1 ± 0.2" in out and f"metric {i}" in out for i in range(8))
    assert "a label of some length" in out


@pytest.mark.parametrize(
    ("values", "text"),
    [([], "-"), ([math.nan], "-"), ([41.25], "41.2"), ([1.0, 3.0], "2.0 ± 1.4"), ([1.0, math.nan], "1.0")],
)
def test_mean_and_deviation(values, text):
    assert mean_and_deviation(values) == text
