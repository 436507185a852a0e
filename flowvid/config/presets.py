"""The presets: defaults of the fields of `Config`, one dict per `--preset`.

The defaults of a flow's or an encoder's fields stand beside their settings.
"""

from flowvid import fields

_SHARED = {
    "variant": "prev_frame",
    "flow": "glow",
    "context": "pyramid",
    "dataset": "moving_shapes",
    "data_dir": None,
    "max_skipped": 0.5,
    "video_feature": None,
    "label_feature": None,
    "num_frames": 30,
    "head_frames": "first",
    "head_frames_drawn": 1,
    "tail_crop": None,
    "augment": "none",
    "weight_decay": 0.0,
    "head_learning_rate": None,
    "muon_learning_rate": None,
    "label_learning_rate": None,
    "label_dropout": 0.0,
    "label_contrast": 0.0,
    "n_bits": 5,
    "dequantization": "floor",
    "backprop": "stored",
    "tail_chunk": None,
    "compute_dtype": "float32",
    "head_clip": 50.0,
    "tail_clip": 5.0,
    "ema_decay": 0.0,
    "max_skips": 5,
    "max_restores": 3,
    "seed": 0,
}
_PAPER_SMALL = _SHARED | {
    "levels": 3,
    "image_size": 32,
    "num_steps": 2000,
    "batch_size": 16,
    "tail_frames": 2,
    "learning_rate": 4e-3,
    "warmup_steps": 50,
    "schedule": "cosine",
    "eval_every": 250,
    "eval_videos": 32,
    "checkpoint_every": 250,
    "log_every": 20,
}
_SMALL = _PAPER_SMALL | {
    "num_steps": 1500,
    "flow": "mixture",
    "context": "unet",
    "head_frames": "any",
    "head_frames_drawn": 3,
    "label_learning_rate": 2e-3,
    "label_dropout": 0.1,
    "label_contrast": 10.0,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "muon_learning_rate": 0.02,
    "tail_clip": 1.0,
    "ema_decay": 0.995,
    "eval_every": 500,
}
# Clips of one's own, at 8 bits: the tail learns from windows of them, the head from any frame.
_FOOTAGE_SMALL = _SMALL | {
    "variant": "state",
    "n_bits": 8,
    "image_size": 64,
    "tail_crop": 32,
    "augment": "mirror",
    "head_frames_drawn": 1,
    "num_steps": 2500,
}
PRESETS: fields.Presets = {
    "paper": _SHARED  # the paper's appendix
    | {
        "levels": 4,
        "image_size": 64,
        "num_steps": None,
        "batch_size": 8,
        "tail_frames": None,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
        "schedule": "constant",
        "eval_every": 1000,
        "eval_videos": 64,
        "checkpoint_every": 1000,
        "log_every": 100,
    },
    "paper_small": _PAPER_SMALL,
    "small": _SMALL,
    "footage_small": _FOOTAGE_SMALL,
    "footage": _FOOTAGE_SMALL
    | {
        "tail_crop": None,
        "num_steps": 20000,
        "batch_size": 16,
        "ema_decay": 0.999,
        "eval_every": 1000,
        "checkpoint_every": 1000,
    },
}
# Fields that may change when a run is resumed: where the data are, how long to train, how often to
# report, and how much memory to use.
RESUMABLE = (
    "backprop",
    "tail_chunk",
    "data_dir",
    "max_skipped",
    "num_steps",
    "max_skips",
    "max_restores",
    "eval_every",
    "eval_videos",
    "checkpoint_every",
    "log_every",
)
