"""A video through the engine: stages one after the other beside the overlapped stream, end to end.

Both read the same made-up video, predict with the packaged model, draw the overlay and write a video. They take turns.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

import cv2
import numpy as np

from lpsnet.config import DEFAULT_MODEL, StreamConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import Engine, load
from lpsnet.engine.capture import open_source
from lpsnet.engine.sources import StreamAddress
from lpsnet.engine.stream_output import StreamOutput
from lpsnet.engine.stream_pipeline import StreamPipeline

HEIGHT, WIDTH = 360, 480


def made_video(path: Path, frames: int) -> None:
    """A window that moves over a made-up scene."""
    scene = cv2.resize(SyntheticScenes(1)[0].image[..., ::-1], (WIDTH + 120, HEIGHT + 120))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
    for i in range(frames):
        x, y = i % 120, i % 60
        writer.write(np.ascontiguousarray(scene[y : y + HEIGHT, x : x + WIDTH]))
    writer.release()


def overlapped(engine: Engine, video: Path, folder: Path, config: StreamConfig) -> float:
    """Frames per second of the stream."""
    source = open_source(StreamAddress("file", str(video)), config)
    output = StreamOutput(folder, "overlapped", source, engine.recipe.categories, config)
    start = perf_counter()
    statistics = StreamPipeline(source, engine.predict, output, config).run()
    output.close()
    return statistics.written / (perf_counter() - start)


def in_turn(engine: Engine, video: Path, folder: Path, config: StreamConfig) -> float:
    """Frames per second of the same steps in one thread."""
    source = open_source(StreamAddress("file", str(video)), config)
    output = StreamOutput(folder, "in_turn", source, engine.recipe.categories, config)
    start = perf_counter()
    written = 0
    for frame in source.frames():
        output.write(output.draw(frame, engine.predict(frame.image)))
        written += 1
    source.close()
    output.close()
    return written / (perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ids", action="store_true", help="write the ids of each frame too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    config = StreamConfig(frames=arguments.ids)
    engine = load(arguments.model)
    rows: dict[str, list[float]] = {"one after the other": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made_video(folder / "video.mp4", arguments.frames)
        engine.predict(np.zeros((HEIGHT, WIDTH, 3), np.uint8))  # warms caches up
        for _ in range(arguments.rounds):
            rows["one after the other"].append(in_turn(engine, folder / "video.mp4", folder, config))
            for workers in arguments.workers:
                fps = overlapped(engine, folder / "video.mp4", folder, replace(config, workers=workers))
                rows.setdefault(f"overlapped, workers {workers}", []).append(fps)
    report = {}
    base = rows["one after the other"]
    for row, values in rows.items():
        ratio = median(v / b for v, b in zip(values, base, strict=True))
        report[row] = {"fps": median(values), "ratio": ratio}
        print(f"{row}: {median(values):.2f} FPS, x {ratio:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
