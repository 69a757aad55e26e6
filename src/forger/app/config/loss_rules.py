"""Losses, schedules and optimizers whose settings contradict each other or do nothing.

Owns what their constructors would say only after torch is imported. See `rules`.
"""

from __future__ import annotations

from forger.app.config.accepted import Findings, Select
from forger.app.config.facts import NEED_TOTAL, loss_name, penalises_gradients, target_of

_NETWORKS = ("generator", "discriminator")


def losses(select: Select) -> Findings:
    """Yields what is wrong with a loss of ours."""
    name = loss_name(select)
    gammas = [key for key in ("loss.r1_gamma", "loss.r2_gamma") if (select(key) or 0) > 0]
    if name == "R3GAN":
        for key in gammas:
            yield (
                key,
                "r3gan sets R1 and R2 by loss.gamma; for two weights write "
                "loss=relativistic_pairing",
            )
    elif name is not None and not gammas and (select("loss.penalty_interval") or 1) > 1:
        yield (
            "loss.penalty_interval",
            "is for R1 and R2, and both are off; set loss.r1_gamma or loss.r2_gamma too",
        )
    if name == "Wasserstein" and not select("loss.weight_clip") and not penalises_gradients(select):
        yield (
            "loss.weight_clip",
            "nothing bounds the Wasserstein critic; write loss.weight_clip=0.01 or "
            "loss.gradient_penalty=10",
        )


def shared_fakes(select: Select) -> Findings:
    """Yields fakes to be shared by updates that do not use one batch each."""
    if select("model.share_fakes") is not True:
        return
    for key in ("loss.n_critic", *(f"model.accumulate.{network}" for network in _NETWORKS)):
        if (select(key) or 1) > 1:
            yield "model.share_fakes", f"needs one batch for each update; {key} must be 1"


def schedules(select: Select) -> Findings:
    """Yields schedules that end with a run which has no known end."""
    if not select.sound("trainer"):
        return
    steps, epochs = select("trainer.max_steps"), select("trainer.max_epochs")
    endless = epochs == -1 or (epochs is None and select("trainer.max_time") is not None)
    if steps not in (None, -1) or not endless:
        return
    for network in _NETWORKS:
        home = target_of(select, f"schedule.{network}")
        if home in NEED_TOTAL:
            word = home.rpartition(".")[2].lower()
            yield (
                "trainer.max_steps",
                f"schedule={word} needs a run of known length; set trainer.max_steps or "
                "trainer.max_epochs, or write schedule=constant",
            )
            return


def optimizers(select: Select) -> Findings:
    """Yields combinations that torch's optimizers refuse, each where it was given."""
    for network in _NETWORKS:
        key = f"optimizer.{network}"
        if not target_of(select, key).startswith("torch.optim.") or not select.sound(key):
            continue
        for flag in ("foreach", "differentiable"):
            if select(f"{key}.{flag}") is True and select(f"{key}.fused") is True:
                yield f"{key}.{flag}", f"cannot go with fused; write {key}.fused=false too"
        if select(f"{key}.nesterov") is True:
            if not select(f"{key}.momentum"):
                yield f"{key}.nesterov", "needs a momentum; write optimizer.momentum=0.9"
            elif select(f"{key}.dampening"):
                yield f"{key}.dampening", "must be 0 with nesterov"
