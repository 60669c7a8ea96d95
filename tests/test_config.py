import json
import subprocess
import sys

import pytest

from lpsnet.categories import categories
from lpsnet.config import BOX_STRIDES, RECIPES, Recipe, get_recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_survive_json(name):
    recipe = get_recipe(name)
    assert recipe.name == name
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert len(recipe.targets.level_bounds) == len(BOX_STRIDES) + 1
    assert len(recipe.categories) <= 255


@pytest.mark.parametrize(
    ("dataset", "things", "stuff"), [("coco", 80, 53), ("cityscapes", 8, 11), ("camvid", 3, 8), ("synthetic", 3, 3)]
)
def test_categories(dataset, things, stuff):
    table = categories(dataset)
    assert [sum(c.isthing for c in table), sum(not c.isthing for c in table)] == [things, stuff]
    assert len({c.id for c in table}) == len({c.name for c in table}) == len(table)
    assert all(len(c.color) == 3 and all(0 <= v <= 255 for v in c.color) for c in table)


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match=r"recipe: expected one of \['lpsnet_.*\], got 'upsnet'"):
        get_recipe("upsnet")
    with pytest.raises(ValueError, match=r"dataset: expected one of \['camvid', .*\], got '../coco'"):
        categories("../coco")


def test_unknown_field_is_named():
    data = get_recipe("lpsnet_r50_coco_800").to_dict()
    data["model"]["anchors"] = 9
    with pytest.raises(ValueError, match=r"ModelConfig: expected fields among .*, got \['anchors'\]"):
        Recipe.from_dict(data)


def test_import_is_quick_and_free_of_torch():
    code = "import sys, lpsnet, lpsnet.config, lpsnet.native, lpsnet.structures; print('torch' in sys.modules)"
    timed = "import time; start = time.process_time(); import lpsnet; print(time.process_time() - start)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", timed], text=True)) for _ in range(3)]
    assert min(seconds) < 0.3
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
