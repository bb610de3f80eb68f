"""Ends a training by preferences whose chosen sides have become too unlikely.

A preference loss may lower both sides as long as it lowers the rejected one more; where sides are alike it does (arXiv
2410.08847), and the model forgets what it was good at.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from train.outcome import say


class ChosenDrop(TrainerCallback):
    """Looks at what is logged, which is the same in all processes.

    Args:
        most: share of the reference's log-prob by which that of the chosen sides may fall; both are means over the pairs since
            the last logged step.
        beta: of the loss, by which TRL multiplies the difference of both.
    """

    def __init__(self, most: float, *, beta: float) -> None:
        self.most, self.beta = most, beta
        self.stopped: dict[str, float] | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Stop after this step, if it is one that was trained on and the chosen sides have fallen too far."""
        if self.stopped is not None or not logs or not {"loss", "rewards/chosen", "logps/chosen"} <= logs.keys():
            return
        now = float(logs["logps/chosen"])
        reference = now - float(logs["rewards/chosen"]) / self.beta
        if reference < 0 and (reference - now) / -reference > self.most:
            self.stopped = {"step": state.global_step, "chosen_logps": now, "reference_chosen_logps": reference}
            control.should_training_stop = True
            say(
                f"stopped after step {state.global_step}: the chosen sides' log-probs are {now:.1f}, more than {self.most:.0%} "
                f"below the reference's {reference:.1f}"
            )
