"""What a run is: one frozen dataclass, its presets, and the settings of its flow and encoder.

Every field of `Config` that carries a help text is a flag of `flowvid.train`; so are the fields of
every flow in `FLOWS` and of every context encoder in `CONTEXTS`.
"""

from dataclasses import dataclass
from typing import Any

from flowvid import fields
from flowvid.conditioning.sees import Sees
from flowvid.conditioning.table import CONTEXTS
from flowvid.config import checks
from flowvid.config.metrics import METRICS, Metric
from flowvid.config.variants import VARIANTS, Variant
from flowvid.errors import ConfigError
from flowvid.flows.table import FLOWS
from flowvid.sizes import Size


@dataclass(frozen=True)
class Config:
    """One run. Built by `preset_config` or from flags, or read from a workdir's config.json."""

    flow_settings: Any  # of the class FLOWS[flow]
    context_settings: Any  # of the class CONTEXTS[context]

    variant: str = fields.field(
        "Model", "the row of the ablation to train.", choices=tuple(VARIANTS)
    )
    preset: str = fields.field(
        "Model",
        "where the defaults of the other flags come from: the paper's appendix, the paper's models "
        "at a size that trains in minutes on two CPU cores, the best models of that size, or the "
        "same for 8-bit footage of 64x64 on two CPU cores, and at a size for a GPU.",
        choices=("paper", "paper_small", "small", "footage_small", "footage"),
    )
    flow: str = fields.field("Model", "the kind of flow in head and tail.", choices=tuple(FLOWS))
    context: str = fields.field(
        "Model",
        "the encoder of what a flow is conditioned on: label, previous frame and state.",
        choices=tuple(CONTEXTS),
    )
    levels: int = fields.field("Model", "levels of each flow; each halves the resolution.")

    dataset: str = fields.field(
        "Data",
        "moving_shapes, moving_digits, stochastic_digits, moments_in_time[/config], celeb_a, "
        "another dataset that TFDS has prepared, or a path: a folder or zip file of clips or "
        "images, or a folder of records.",
    )
    data_dir: str | None = fields.field(
        "Data", "the folder of prepared datasets; the default is TFDS's own."
    )
    max_skipped: float = fields.field(
        "Data",
        "the share of a folder's files that may be skipped when it is prepared, and of the clips "
        "of a video dataset of TFDS that may be left out: too short, or of unknown label.",
        low=0,
    )
    video_feature: str | None = fields.field(
        "Data",
        "the feature of a dataset of TFDS that holds the videos, such as steps/image_main. By "
        "default it is found, and a line says so where there are several.",
    )
    label_feature: str | None = fields.field(
        "Data",
        "the feature that holds the labels of a dataset of TFDS; none: clips have no labels. By "
        "default it is found.",
    )
    num_frames: int = fields.field(
        "Data",
        "frames per clip, including the first one. 1 trains the head alone, on images or on first "
        "frames; it is the default for a dataset of single images.",
    )
    image_size: Size = fields.field(
        "Data", "size of a frame, as 64 or HEIGHTxWIDTH; both sides are divisible by 2^levels."
    )
    n_bits: int = fields.field("Data", "bits per pixel and channel that the model sees: 5 or 8.")
    dequantization: str = fields.field(
        "Data",
        "floor: pixels are floored to n_bits, so that bits per dimension bound those of the image; "
        "paper: pixels are not floored, as in the paper's code.",
        choices=("floor", "paper"),
    )

    num_steps: int | None = fields.field(
        "Training", "training steps in all; the default is one pass over the data.", low=0
    )
    batch_size: int = fields.field("Training", "videos per step, over all devices.")
    head_frames: str = fields.field(
        "Training",
        "which frames the head is trained on: first, those of the clips; any, a frame drawn from "
        "each clip, where the frames of a clip look like first frames.",
        choices=("first", "any"),
    )
    head_frames_drawn: int = fields.field(
        "Training", "frames drawn from each clip for the head's step, with --head_frames=any."
    )
    tail_frames: int | None = fields.field(
        "Training", "frames drawn from each clip for the tail's step; the default is all of them."
    )
    tail_crop: Size | None = fields.field(
        "Training",
        "size of a window of each clip, at a random place, on which the tail is trained, as 32 or "
        "HEIGHTxWIDTH: large frames take less memory and time so. The default is the whole frame, "
        "which evaluation and sampling always use.",
    )
    augment: str = fields.field(
        "Training",
        "mirror: left and right are exchanged in half of the clips, drawn anew in each step; not "
        "for labels that name a side, nor for clips with writing.",
        choices=("none", "mirror"),
    )
    learning_rate: float = fields.field("Training", "learning rate of Adam.", low=0)
    muon_learning_rate: float | None = fields.field(
        "Training",
        "learning rate of Muon, which then trains the matrices of the networks in place of Adam. "
        "By default Adam trains everything.",
        low=0,
    )
    head_learning_rate: float | None = fields.field(
        "Training", "learning rate of the head; the default is that of the tail.", low=0
    )
    label_learning_rate: float | None = fields.field(
        "Training",
        "learning rate of what depends on the label alone: learned vectors or images of labels, "
        "and what vectors scale and shift. The default is that of the model.",
        low=0,
    )
    weight_decay: float = fields.field(
        "Training",
        "weight decay of the matrices of networks, as in AdamW: each step multiplies them by one "
        "minus it times their learning rate, Muon's where that trains them.",
        low=0,
    )
    label_dropout: float = fields.field(
        "Training",
        "share of clips whose label is not told to the models, so that samples can be guided "
        "towards their label (flowvid.sample --guidance).",
        low=0,
    )
    label_contrast: float = fields.field(
        "Training",
        "weight of a further loss of a head that sees the label: softplus(log p(frame | another "
        "label) - log p(frame | its label)), in bits per dimension. It keeps what the label does "
        "not tell from depending on it.",
        low=0,
    )
    warmup_steps: int = fields.field(
        "Training", "steps over which the learning rate rises linearly.", low=0
    )
    schedule: str = fields.field(
        "Training",
        "learning rate after the warm-up: constant, or a cosine that reaches zero at num_steps. A "
        "run that is resumed with a larger num_steps continues on the longer cosine, at a higher "
        "rate.",
        choices=("constant", "cosine"),
    )
    backprop: str = fields.field(
        "Training",
        "stored: the backward pass keeps the flow's activations; reversible: it rebuilds them from "
        "the output, so that memory does not grow with the number of steps of flow.",
        choices=("stored", "reversible"),
    )
    tail_chunk: int | None = fields.field(
        "Training",
        "frames that pass through the tail together on a device; fewer take less memory. The "
        "default is as many as fit half a gigabyte.",
    )
    compute_dtype: str = fields.field(
        "Training",
        "type of the coupling networks' arithmetic; parameters, log-determinants and sums are "
        "always float32.",
        choices=("float32", "bfloat16"),
    )
    head_clip: float = fields.field("Training", "largest gradient norm of the head.", low=0)
    tail_clip: float = fields.field("Training", "largest gradient norm of the tail.", low=0)
    ema_decay: float = fields.field(
        "Training",
        "decay of an exponential moving average of the parameters, such as 0.999, which evaluate "
        "and sample then use; 0 keeps no average.",
        low=0,
    )
    max_skips: int = fields.field(
        "Training",
        "consecutive steps with a non-finite loss or gradient before the last checkpoint is "
        "restored.",
    )
    max_restores: int = fields.field(
        "Training",
        "how often the same checkpoint may be restored before the run is given up.",
        low=0,
    )
    seed: int = fields.field(
        "Training", "seed of parameters, data order and noise; below 2^32.", low=0
    )

    eval_every: int = fields.field("Reporting", "steps between validations.")
    eval_videos: int = fields.field(
        "Reporting", "largest number of videos in a validation during training."
    )
    checkpoint_every: int = fields.field(
        "Reporting", "steps between checkpoints; each validation saves one, too."
    )
    log_every: int = fields.field("Reporting", "steps between TensorBoard events.")

    num_labels: int = 0  # of the dataset; known once it is loaded
    dataset_fingerprint: str = ""  # of the training examples; known once they are loaded

    def __post_init__(self) -> None:
        """Refuses a configuration that cannot be trained.

        Raises:
            ConfigError: naming the field and its possible values.
        """
        fields.check(self)
        checks.seed_and_average(self)
        self.flow_settings.check(self.image_size, self.levels)
        self.context_settings.check(self.image_size, self.levels)
        if self.models_bins and self.dequantization == "paper":
            raise ConfigError(
                f"--flow={self.flow} models the bins of floored pixels, which "
                "--dequantization=paper does not have: use --dequantization=floor."
            )
        if self.n_bits not in (5, 8) or (self.dequantization == "paper" and self.n_bits != 5):
            raise ConfigError(
                f"--n_bits={self.n_bits} with --dequantization={self.dequantization} is not "
                "defined: use 5 or 8 with floor, 5 with paper."
            )
        checks.frames(self)
        checks.crop(self)
        if self.label_dropout > 0 and not self.context_settings.DROPS_LABELS:
            raise ConfigError(
                f"--context={self.context} cannot encode a label that is not told: use "
                "--label_dropout=0 or --context=unet."
            )
        if self.label_dropout >= 1:
            raise ConfigError(f"--label_dropout={self.label_dropout} must be below 1.")

    @property
    def ablation(self) -> Variant:
        """The variant's row of the ablation: whether the run trains, and what each model sees."""
        return VARIANTS[self.variant]

    def sees(self, model: str) -> Sees:
        """Returns what "head" or "tail" is conditioned on."""
        return self.ablation.sees(model)

    def guidance(self, model: str) -> float | None:
        """Returns the default scale of guidance of "head" or "tail", or None: it has no effect.

        It needs a label that is seen, and, in training, not told to every clip.
        """
        scales = self.flow_settings.GUIDANCE
        if scales is None or not self.sees(model).label or not self.label_dropout:
            return None
        return float(scales[model])

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the run's models; a run on single frames has no tail."""
        return ("head", "tail") if self.num_frames > 1 else ("head",)

    @property
    def models_bins(self) -> bool:
        """Whether the density is constant in each bin, so that bits need no noise."""
        return bool(self.flow_settings.BINS)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics in which the run's flow has a meaning.

        A flow that models bins has one where pixels have bins, none wider than its own.
        """
        return tuple(
            name
            for name, metric in METRICS.items()
            if not self.models_bins or (metric.floor and metric.n_bits >= self.n_bits)
        )

    @property
    def metric(self) -> Metric:
        """The metric under which the models see pixels."""
        return METRICS["paper" if self.dequantization == "paper" else f"{self.n_bits}-bit"]
