"""How many people a video shows at most at a time, by a fleet: python examples/count_people.py VIDEO URL."""

import sys

from tidesight.streams import detect_video

most = 0
for frame, detections in detect_video(sys.argv[1], sys.argv[2]):
    people = sum(found.label == "person" for found in detections)
    if people > most:
        most = people
        print(f"{frame.timestamp_s:8.2f} s: {people} people")
