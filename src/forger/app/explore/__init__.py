"""The page of `explore.py`, by Gradio: what a run's generator can do, without typing."""
