"""Detection of people.

`movenet`, `mediapipe` and `boxes` are detectors, built by `pipeline/factory.py`; `centernet` decodes MoveNet's maps.
"""
