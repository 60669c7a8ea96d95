"""Writes the dense ONNX file of a recipe with random weights, to time it: the work does not depend on the weights."""

import argparse
from pathlib import Path

import torch

from lpsnet.export.run import OnnxOptions, write_onnx
from lpsnet.models.lpsnet import LPSNet
from lpsnet.recipes import RECIPES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    write_onnx(LPSNet(RECIPES[arguments.recipe]).eval(), arguments.output, OnnxOptions(profile="dense"))


if __name__ == "__main__":
    main()
