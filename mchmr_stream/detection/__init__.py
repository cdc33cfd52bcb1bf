"""Who is in the picture: every file but `centernet` is a detector, made where settings name it (`build.py`)."""
