"""Who is in the picture: `movenet`, `mediapipe` and `boxes` are detectors, made by `build.py`; `centernet` serves the first."""
