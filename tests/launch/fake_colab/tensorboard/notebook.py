from google.colab import note


def start(args_string: str) -> None:
    note("tensorboard", args_string)
