"""Who is in the picture: `movenet`, `mediapipe` and `boxes` are detectors, made by `pipeline/factory.py`; `centernet` serves the first."""
