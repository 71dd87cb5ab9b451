"""What defines a training run: plain values, one for each flag of the training script."""

from dataclasses import asdict, dataclass, fields

# The registry itself, tf_synflow.scores.REGISTRY, takes TensorFlow's import to read.
SCORERS = ("synflow", "magnitude", "random")
OPTIMIZERS = ("sgd", "adam", "adamw")
LEARNING_RATE_SCHEDULES = ("step", "cosine", "constant")
STRATEGIES = ("none", "mirrored", "multiworker")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class TrainConfig:
    """A training run; every value is a flag of the same name, described by `tf-synflow-train`."""

    data: str = "digits"
    data_dir: str | None = None
    image_size: int | None = None
    augment: bool = True
    model: str = "conv"
    width: float = 1.0
    compression: float = 10.0
    scorer: str = "synflow"
    rounds: int | None = None
    schedule: str = "exponential"
    scope: str = "global"
    structure: str | None = None
    target: str | None = None
    shrink: bool = False
    allow_collapse: bool = False
    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    lr_schedule: str = "step"
    lr_drops: tuple[int, ...] = ()
    lr_drop_factor: float = 0.1
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    steps_per_execution: int = 1
    mixed_precision: str = "float32"
    strategy: str = "none"
    seed: int = 0
    compare_dense: bool = False
    export: bool = False

    def flag_lines(self) -> list[str]:
        """The run as lines of a flagfile."""
        return [
            _flag_line(name, value) for name, value in asdict(self).items() if value is not None
        ]

    def differences(self, other: "TrainConfig") -> list[str]:
        """What differs from another run, in words."""
        names = [field.name for field in fields(self)]
        return [
            f"--{name} is {getattr(self, name)!r}, was {getattr(other, name)!r}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]


def _flag_line(name: str, value) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"--{name}={value}"
