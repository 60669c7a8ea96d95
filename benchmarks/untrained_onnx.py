"""Writes the dense ONNX file of a recipe with random weights, to time it: the work does not depend on the weights."""

import argparse
from pathlib import Path
from typing import get_args

import torch

from lpsnet.artifact import Precision
from lpsnet.export.deform import DeformForm
from lpsnet.export.images import MadeUpImages
from lpsnet.export.run import OnnxOptions, write_onnx
from lpsnet.models.lpsnet import LPSNet
from lpsnet.recipes import RECIPES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--deform-conv", choices=get_args(DeformForm), default="standard")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    options = OnnxOptions("dense", arguments.precision, arguments.deform_conv)
    write_onnx(LPSNet(RECIPES[arguments.recipe]).eval(), arguments.output, options, MadeUpImages(1))


if __name__ == "__main__":
    main()
