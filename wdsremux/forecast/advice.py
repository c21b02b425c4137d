"""What the figures mean: what bounds training, what to choose, what it costs, when it has paid for itself. Pure."""

from __future__ import annotations

import math

from wdsremux.errors import counted
from wdsremux.forecast.findings import Advice, Costs, Outlook
from wdsremux.forecast.wording import bytes_text, rate_text, time_text

_FASTER = 1.15  #: times as fast, from which on another choice is worth a word


def advise(costs: Costs) -> Advice:
    """Put the figures in words."""
    model = costs.asked.train_images_per_s
    bound, today = _bound(costs)
    chosen = _choice(costs)
    after = min(chosen.loader_images_per_s.value, model or math.inf)
    # Per epoch; what is dropped or rejected is not trained on, and so not compared.
    saved_s = chosen.samples.value / today - chosen.samples.value / after if today and after else 0.0
    epochs = chosen.seconds.value / saved_s if saved_s > 0 else None
    sentences = [
        _today_text(costs, bound, today),
        _choice_text(costs, chosen, today),
        f"Cost: {time_text(chosen.seconds)} of conversion with {counted(costs.asked.workers, 'worker')}, and "
        f"{bytes_text(chosen.size_bytes)} on the disk.",
        _paid_text(costs, chosen, epochs, today, after),
    ]
    return Advice(bound, chosen.name, epochs, tuple(filter(None, sentences)))


def _bound(costs: Costs) -> tuple[str, float]:
    """What bounds training straight from the source, and its images a second; 0 where nothing can be decoded."""
    if costs.today is None:
        return "decoding", 0.0
    cpu = costs.today.images_per_s.value
    stages = {"decoding" if costs.today.decode >= 0.5 else "augmentation": cpu}
    if costs.network_images_per_s is not None:
        stages["network"] = costs.network_images_per_s
    if costs.asked.train_images_per_s is not None:
        stages["model"] = costs.asked.train_images_per_s
    slowest = min(stages, key=lambda stage: stages[stage])
    return slowest, stages[slowest]


def _choice(costs: Costs) -> Outlook:
    """What is asked for, unless it enlarges images, or is too slow for the model and smaller ones are much faster."""
    asked, expected, model = costs.expected[0], costs.expected, costs.asked.train_images_per_s
    if (kept := _not_enlarged(costs)) is not None:
        return kept
    if model is None or asked.loader_images_per_s.high >= model:
        return asked
    smaller = [each for each in expected if each.size_bytes.value < asked.size_bytes.value and _baked(each)]
    enough = [each for each in smaller if each.loader_images_per_s.value >= model]
    if enough:  # the one that keeps most of the images
        return max(enough, key=lambda each: each.size_bytes.value)
    best = max((asked, *smaller), key=lambda each: each.loader_images_per_s.value)
    return best if best.loader_images_per_s.value > _FASTER * asked.loader_images_per_s.value else asked


def _not_enlarged(costs: Costs) -> Outlook | None:
    """The choice that keeps images at their own size, where what is asked for enlarges most of them."""
    asked, own = costs.expected[0], costs.looked.short_side
    if asked.short_side <= own:
        return None
    others = (each for each in costs.expected if "recipe" in each.changes)
    return next((each for each in others if each.short_side < asked.short_side), None)


def _baked(choice: Outlook) -> bool:
    """Whether a choice makes another image, and not only another file of the same."""
    return bool({"recipe", "quality", "fast"} & set(choice.changes))


def _today_text(costs: Costs, bound: str, rate: float) -> str:
    if costs.today is None:
        return "Training from the source: none of the images that were looked at can be decoded."
    share = costs.today.decode
    cpu = (
        f"Pillow and torchvision prepare {rate_text(costs.today.images_per_s)} of {costs.size} px on "
        f"{counted(costs.today.cores, 'core')} ({share:.0%} of it decoding, {1 - share:.0%} augmentation)"
    )
    network = costs.network_images_per_s
    comes = f", and the source comes at {network:,.0f} images/s" if network is not None else ""
    said = f"Training straight from the source is bound by {'the ' * (bound in ('network', 'model'))}{bound}: {cpu}"
    model = costs.asked.train_images_per_s
    takes = "" if model is None else f"; the model takes {model:,.0f} images/s"
    waits = "" if model is None or model <= rate else f", and waits {1 - rate / model:.0%} of its time"
    return f"{said}{comes}{takes}{waits}."


def _choice_text(costs: Costs, chosen: Outlook, today: float) -> str:
    asked, model, loader = costs.expected[0], costs.asked.train_images_per_s, chosen.loader_images_per_s
    gains = f", {loader.value / today:,.1f} times as many" if today and loader.value > today else ""
    said = f"Choose {chosen.name}: wdsremux.DataLoader gives {rate_text(loader)} from it ({chosen.decoder}){gains}."
    if chosen is _not_enlarged(costs):
        return f"{said} {asked.name}, which was asked for, enlarges most images, which adds nothing but bytes."
    if chosen is not asked:
        speed = rate_text(asked.loader_images_per_s)
        return f"{said} {asked.name}, which was asked for, gives {speed}, less than the model takes."
    if model is None:
        return said
    if loader.value >= model:
        return f"{said} The model will not wait for data."
    return f"{said} The model still waits {1 - loader.value / model:.0%} of its time."


def _paid_text(costs: Costs, chosen: Outlook, epochs: float | None, today: float, after: float) -> str:
    samples, given = chosen.samples.value, costs.asked.epochs
    model = costs.asked.train_images_per_s
    if model is not None and today >= model:
        return "The model is the slowest part already: converting will not make training faster."
    if epochs is None or not today:
        return "Converting will not make training faster on this machine."
    first, later = samples / today, samples / after
    count = math.ceil(epochs)
    whose = "" if model is not None else ", if the model is faster than the loader"
    said = (
        f"An epoch takes {time_text(first)} now and {time_text(later)} after it{whose}: the conversion has paid for "
        f"itself after {counted(count, 'epoch')}."
    )
    if given is None:
        return said
    before, with_it = given * first, chosen.seconds.value + given * later
    return f"{said} {counted(given, 'epoch')}: {time_text(before)} without it, {time_text(with_it)} with it."
