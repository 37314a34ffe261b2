"""What the command says by default is what the library does."""

import inspect

from tidesight.commands.video import video
from tidesight.streams.options import DetectVideoOptions, FleetOptions


def test_the_command_and_the_library_have_the_same_defaults() -> None:
    said = {name: parameter.default for name, parameter in inspect.signature(video).parameters.items()}
    options, fleet = DetectVideoOptions(), FleetOptions(("http://x",))
    assert (said["quality"], said["window"], said["send_px"]) == (options.quality, options.window, options.longest_px)
    assert (said["every"], said["fps"]) == (options.sampling.every, options.sampling.fps)
    assert (said["deadline_s"], said["patience_s"]) == (fleet.deadline_s, fleet.patience_s)
    assert (said["most_in_flight"], said["latency_goal_s"]) == (fleet.limit.most, fleet.limit.goal_s)
